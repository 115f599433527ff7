"""The page: results and runs of a sweep to look at, as a file or on this machine.

document    what the page shows of the results: tasks, models, scores, leaderboards, comparisons, runs
timeline    how the sweeps went
columns     the runs as columns of numbers, which a browser reads without parsing them
details     what is behind one run: messages, assertions, errors, its log and files
encode      all of these as JSON
bundle      the page's own code and styles, from the modules in `page/`
report      all of it in one HTML file
live        what it shows now of a folder whose sweep may be running, and each change
server      all of it on this machine, while the sweep runs
page/       the code that runs in the browser
"""
