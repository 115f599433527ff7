# %% [markdown]
# # Plurals
# A table of words with one question per row, evaluated four rows at a time. The score is the share of correct plurals.
# The results of the rows are stored with it, from which `fanbench results` computes its interval: a wide one, because
# there are only six rows.

# %%
import re

import kaggle_benchmarks as kbench
import pandas as pd

WORDS = pd.DataFrame(
    [
        ("cat", "cats"),
        ("leaf", "leaves"),
        ("child", "children"),
        ("mouse", "mice"),
        ("goose", "geese"),
        ("tooth", "teeth"),
    ],
    columns=["word", "plural"],
)


# %%
# A helper of the task below. It is not a separate task on Kaggle and writes no files.
@kbench.task(name="One Plural", store_task=False, store_run=False)
def one_plural(llm, word: str, plural: str) -> bool:
    answer = llm.prompt(f'What is the plural of "{word}"? Answer with one word.')
    return plural in re.findall(r"[a-z]+", answer.lower())


# %%
@kbench.task(name="Word Table", description="The share of correct plurals in a table of six words.")
def word_table(llm) -> float:
    runs = one_plural.evaluate(evaluation_data=WORDS, llm=[llm], n_jobs=4)
    return float(runs.as_dataframe()["result"].mean())


# %%
word_table.run(kbench.llm)
