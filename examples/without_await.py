"""Push a task, follow the log of a run and sweep, without `async` and `await`.

pip install -e '.[local]' && fanbench models add smollm2 gemma3
python examples/without_await.py
"""

from pathlib import Path

from fanbench.sync import Client, sweep

TASKS = Path(__file__).parent / "tasks"

with Client.local() as client:  # Client() connects to Kaggle
    pushed = client.push(TASKS / "arithmetic.py", wait=True)
    report = client.run(pushed.slug, "*")
    for line in client.lines(report.runs[0]):
        print("|", line)
    for run in client.wait(*report.runs):
        print(run.id, run.model_version_slug, run.state.label)
    swept = sweep(TASKS / "capital_cities.py", "*", output="swept", client=client)
    print(swept.table().plain())
