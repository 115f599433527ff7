"""The Model Proxy in processes of its own (`serve --proxy-workers N`), which answer behind one port.

    clients ── port of the Model Proxy ─┬─ worker ─┬─ upstreams
                                        └─ worker ─┤
                                                   └─ link ─ server: slots of upstreams, its own models, logs of runs

A worker authorizes a request and counts its usage by the database, and asks upstreams itself. What must be in one
place stays in the server, which it asks over its link, a socket that only these two have: for a slot before each
request to an upstream, whose limit is that of the server with all its workers; for the answers of embedded, scripted
and recorded models; and to write into the log of a run.

`link` has the messages, `broker` answers them in the server, `processes` starts the workers and replaces those that
die, and `worker` is their program. Each end of a link learns of the other's death by the end of the link: a worker dies
with the server, and the server takes back the slots of a worker, and ends what it has asked for.
"""
