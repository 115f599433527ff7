# %% [markdown]
# # Plurals
# A table of words with one question per row, evaluated four rows at a time. The score is the share of correct plurals
# with the half-width of its 95% confidence interval, which is wide because there are only six rows.

# %%
import math
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


def half_width(right: int, rows: int) -> float:
    """Agresti and Coull's interval. Unlike the textbook's, it is not 0 if all or none of the rows are correct."""
    share = (right + 2) / (rows + 4)
    return 1.96 * math.sqrt(share * (1 - share) / (rows + 4))


# %%
# A helper of the task below. It is not a separate task on Kaggle and writes no files.
@kbench.task(name="One Plural", store_task=False, store_run=False)
def one_plural(llm, word: str, plural: str) -> bool:
    answer = llm.prompt(f'What is the plural of "{word}"? Answer with one word.')
    return plural in re.findall(r"[a-z]+", answer.lower())


# %%
@kbench.task(name="Word Table", description="The share of correct plurals in a table of six words.")
def word_table(llm) -> tuple[float, float]:
    runs = one_plural.evaluate(evaluation_data=WORDS, llm=[llm], n_jobs=4)
    right = int(runs.as_dataframe()["result"].sum())
    return right / len(WORDS), half_width(right, len(WORDS))


# %%
word_table.run(kbench.llm)
