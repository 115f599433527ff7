# %% [markdown]
# # Capital cities
# Does the model know four capitals, and does it answer instead of repeating the question?
# The task passes if every assertion passes.

# %%
import kaggle_benchmarks as kbench

CAPITALS = {
    "Japan": "Tokyo",
    "Italy": "Rome",
    "Egypt": "Cairo",
    "Spain": "Madrid",
}


# %%
@kbench.task(name="Capital Cities", description="Names four capitals; passes if all are correct.")
def capital_cities(llm) -> None:
    for country, capital in CAPITALS.items():
        with kbench.chats.new(country):
            answer = llm.prompt(f"What is the capital of {country}? Answer with the name of the city only.")
        kbench.assertions.assert_in(capital, answer, expectation=f"The capital of {country} is {capital}")


# %%
capital_cities.run(kbench.llm)
