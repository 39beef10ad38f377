"""Servers under test, each run as `python -m benchmarks.servers.NAME HOST PORT [options]`.

Each does, the way its own documentation shows,

    /ws        echo of text
    /binary    echo of binary messages
    /json      echo of JSON, parsed and serialised
    /receive   nothing but receive what is published
    /publish   publish each text message to all that receive

and prints "ready PID" once it listens, with the process that serves.
"""
