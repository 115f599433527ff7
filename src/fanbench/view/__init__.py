"""The page: results and runs of a sweep to look at, as a file that can be mailed.

document    what the page shows of the results: tasks, models, scores, leaderboards, comparisons, runs
columns     the runs as columns of numbers, which a browser reads without parsing them
details     what is behind one run: messages, assertions, errors, its log and files
encode      all of these as JSON
bundle      the page's own code and styles, from the modules in `page/`
report      all of it in one HTML file
page/       the code that runs in the browser
"""
