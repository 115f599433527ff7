"""What `fanbench.sweeps.engine` is made of.

lane         one task: push → creation → schedule, with scheduling (what is asked for, what was skipped)
watching     one task's runs: found in a list, followed until they have ended
logs         live logs of all tasks, a bounded number at a time
collect      outputs and logs of runs that have ended, likewise
gate         the budget before each scheduling
book         all attempts: remembered, written down and said in one breath
board        one task's share of the book, by model and by run
signals      bells and queues; shared: what all of these share
"""
