# %% [markdown]
# # Arithmetic
# Five small sums, each in a separate chat. The score is the share of correct answers, from 0 to 1.

# %%
import re

import kaggle_benchmarks as kbench

SUMS = {
    "2 + 2": 4,
    "3 + 4": 7,
    "9 - 3": 6,
    "5 x 5": 25,
    "6 x 7": 42,
}


def last_number(text: str) -> int | None:
    """Return the last number in `text`, because models often repeat the sum before they answer it."""
    numbers = re.findall(r"-?\d+", text)
    return int(numbers[-1]) if numbers else None


# %%
@kbench.task(name="Arithmetic", description="The share of correct answers to five small sums.")
def arithmetic(llm) -> float:
    right = 0
    for question, expected in SUMS.items():
        with kbench.chats.new(question):
            answer = llm.prompt(f"What is {question}? Answer with the number only.")
        right += last_number(answer) == expected
    return right / len(SUMS)


# %%
arithmetic.run(kbench.llm)
