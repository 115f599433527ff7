"""Carries out jobs on the machines of a Ray cluster. Only `driver` and `worker`, in processes of Ray's, import Ray.

    server ── RayCarrier ──(pipe)── driver ──(Ray)── worker ── LocalCarrier ── … ── run

`driver` is a process of its own: Ray ends the process that uses it when the cluster is lost, and shows its environment
and command line to the cluster. So it has neither the server's token nor its database. `worker` is a Ray task, which
streams what it has to say in `messages`; it keeps a `LocalCarrier` for the next run in the same process.
"""
