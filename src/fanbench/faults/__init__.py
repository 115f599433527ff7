"""Answers that fail on purpose, the same for the simulated Kaggle and the local server.

    fault      what goes wrong, and in which calls
    files      files of faults, and the presets
    injector   which call is hit, decided by a seed
    answers    an answer over HTTP
    damage     what a fault does to an answer, and to a stream of events

It knows the names and paths of the calls, and nothing of a client or a server.
"""
