"""The rules: what may be wrong with a container, as a table; those of the node are in finding_rules_node.py. Pure.

`critical`: nothing can be started any more. `warning`: it will die, or lose something, or has. `info`: worth knowing, and kills nobody.
A threshold that is an alert's too is the alert's (a test holds both).

One page has no past, so a rule looks at levels (zombies, tasks, bytes left), at ratios of two counters of one life (throttled of all
periods), at shares of the time since the container's start, and at counts of what should not have happened at all in this life. Whether
something grows, and when it will be full, is for alerts to say. Only a crash loop is seen in the deaths of the last 20 minutes, which are
given beside the samples.
"""

from collectors.inquest import finding_conditions as when
from collectors.inquest.finding import Rule
from collectors.inquest.finding_rules_node import NODE_RULES

_NO_MEMORY = "the node has no memory controller"
_NO_PIDS = "the node has no pids controller"
_NO_PROCESSES = "the processes of no container can be seen"
_NO_INIT = "no container has a PID 1 of its own that can be seen"
_NO_ISOLATION = "what isolates containers is not read yet, or cannot be"

RULES: tuple[Rule, ...] = (
    *NODE_RULES,
    Rule(
        "memory-near-limit",
        "warning",
        metrics=(when.USAGE, when.HEADROOM, when.NEAREST, when.EVENTS_HIGH, when.EVENTS_MAX, when.CANDIDATE),
        collectors=("headroom", "memory"),
        find=when.memory_near_limit,
        witness=when.USAGE,
        without=_NO_MEMORY,
        threshold=0.05,
        alert="CoronerOomNear",
        why="Nothing is left that the kernel could reclaim, so with the next larger request\nthe OOM killer takes a process.",
        fix=(
            "A larger limit: docker update --memory N --memory-swap N, resources.limits.memory. memory.high of its "
            "cgroup slows it down before it is killed; --memory-reservation (memory.low) protects it at a limit that it shares."
        ),
        runbook="coroneroomnear",
    ),
    Rule(
        "oom-kill-of-child",
        "warning",
        metrics=(when.OOM_KILL, when.USAGE),
        collectors=("memory",),
        find=when.oom_kill_of_child,
        witness=when.OOM_KILL,
        without=_NO_MEMORY,
        alert="CoronerOomKillOfChild",
        why=(
            "A worker, a connection or a health check is gone, and nothing restarts the container:\n"
            "whether the program has noticed is its own affair."
        ),
        fix=(
            "Restart it if it lacks the process. To have all of it end next time: memory.oom.group (singleProcessOOMKill: false), "
            "or a larger limit."
        ),
        runbook="coroneroomkillofchild",
    ),
    Rule(
        "init-wrapper",
        "warning",
        metrics=(when.IS_WRAPPER, when.INIT),
        collectors=("init",),
        sources=("cgroup", "proc"),
        find=when.init_wrapper,
        witness=when.INIT,
        without=_NO_INIT,
        alert="CoronerInitDeaf",
        why=(
            "The stop signal ends at the shell, and the program behind it never hears of it:\n"
            "every stop waits out the grace period and ends in SIGKILL."
        ),
        fix=(
            'Exec form in the Dockerfile, CMD ["program", "argument"]; in a script the last line exec program; in a pod command: '
            '["program"].'
        ),
        runbook="coronerforcedkills",
    ),
    Rule(
        "init-deaf",
        "warning",
        metrics=(when.HANDLES, when.IS_WRAPPER, when.INIT),
        collectors=("init",),
        sources=("cgroup", "proc"),
        find=when.init_deaf,
        witness=when.INIT,
        without=_NO_INIT,
        alert="CoronerInitDeaf",
        why=(
            "PID 1 gets no signal that it does not handle: every stop waits out the grace period\n"
            "and ends in SIGKILL, with what is not finished lost."
        ),
        fix=(
            "Handle the signal in the program, or give the container an init that passes it on: docker run --init, init: true in Compose, "
            "tini as ENTRYPOINT, shareProcessNamespace: true in a pod. If it listens to another signal: STOPSIGNAL in the image."
        ),
        runbook="coronerforcedkills",
    ),
    Rule(
        "forced-kill",
        "warning",
        metrics=(when.FORCED_KILLS, when.GRACE_LEFT, when.LAST_STOP),
        collectors=("deaths",),
        find=when.forced_kill,
        alert="CoronerForcedKills",
        why=(
            "Its grace period ran out before it had ended: what it had not finished is lost,\n"
            "and every stop or update of it takes that long."
        ),
        fix=(
            "If it stops, but slowly: docker stop -t SECONDS, stop_grace_period, terminationGracePeriodSeconds. If not: it must "
            "handle its stop signal."
        ),
        runbook="coronerforcedkills",
    ),
    Rule(
        "crash-loop",
        "warning",
        metrics=(when.DEATHS,),
        collectors=("deaths",),
        find=when.crash_loop,
        threshold=3,
        alert="CoronerCrashLoop",
        why=(
            "Something starts it again and again: the service is away most of the time,\n"
            "and what each life did before its end may be done again."
        ),
        fix=(
            "coroner cases --container NAME has the evidence. To stop the loop and look: docker update --restart no NAME, kubectl "
            "scale --replicas 0."
        ),
        runbook="coronercrashloop",
    ),
    Rule(
        "zombies-near-pid-limit",
        "warning",
        metrics=(when.ZOMBIES, when.THREADS_LIMIT),
        collectors=("zombies", "pids"),
        sources=("cgroup", "proc"),
        find=when.zombies_near_pid_limit,
        witness=when.ZOMBIES,
        without=_NO_PROCESSES,
        threshold=0.5,
        alert="CoronerZombiesNearPidLimit",
        why="At the limit fork and thread creation fail with EAGAIN,\nthose of health checks and exec included.",
        fix=(
            "Restart the container: its zombies go with its PID 1. For good: docker run --init, tini as ENTRYPOINT, "
            "shareProcessNamespace: true."
        ),
        runbook="coronerzombiesnearpidlimit",
    ),
    Rule(
        "zombies-under-init",
        "warning",
        metrics=(when.ZOMBIES,),
        collectors=("zombies",),
        sources=("cgroup", "proc"),
        find=when.zombies_under_init,
        witness=when.ZOMBIES,
        without=_NO_PROCESSES,
        threshold=5,
        alert="CoronerZombieGrowth",
        why=(
            "PID 1 waits neither for its children nor for orphans that it adopted, as those of exec probes.\n"
            "Each takes a PID until nothing can fork."
        ),
        fix=(
            "Give it an init that reaps: docker run --init, init: true in Compose, tini as ENTRYPOINT, shareProcessNamespace: true "
            "in a pod."
        ),
        runbook="coronerzombiegrowth",
    ),
    Rule(
        "zombies-under-child",
        "warning",
        metrics=(when.ZOMBIES,),
        collectors=("zombies",),
        sources=("cgroup", "proc"),
        find=when.zombies_under_child,
        witness=when.ZOMBIES,
        without=_NO_PROCESSES,
        threshold=5,
        alert="CoronerZombieGrowth",
        why=(
            "A process of the container starts children and never waits for them; no init can do that for it.\n"
            "Each takes a PID until nothing can fork."
        ),
        fix=(
            "Have the parent call wait() when SIGCHLD comes, or ignore SIGCHLD. At once: restart that process, and PID 1 reaps what "
            "it leaves."
        ),
        runbook="coronerzombiegrowth",
    ),
    Rule(
        "pid-limit-near",
        "warning",
        metrics=(when.THREADS, when.THREADS_LIMIT),
        collectors=("pids",),
        find=when.pid_limit_near,
        witness=when.THREADS,
        without=_NO_PIDS,
        threshold=0.8,
        alert="CoronerPidLimitNear",
        why="At the limit fork and thread creation fail with EAGAIN,\nthose of health checks and exec included.",
        fix=(
            "Find what grows (zombies, a thread for each request), or raise the limit: docker update --pids-limit N, podPidsLimit "
            "of the kubelet."
        ),
        runbook="pid-limit-near",
    ),
    Rule(
        "fork-failures",
        "warning",
        metrics=(when.FORK_FAILURES, when.THREADS, when.THREADS_LIMIT),
        collectors=("pids",),
        find=when.fork_failures,
        witness=when.FORK_FAILURES,
        without=_NO_PIDS,
        alert="CoronerForkFailures",
        why='Something in it could not start a process or a thread ("Resource temporarily unavailable"),\nand may have gone on without.',
        fix=(
            "Raise the PID limit (docker update --pids-limit N, podPidsLimit), or bound what starts threads; it stays until the "
            "container restarts."
        ),
        runbook="pid-limit-near",
    ),
    Rule(
        "memory-stalled",
        "warning",
        metrics=(when.STALLED, when.START),
        collectors=("pressure", "life"),
        find=when.memory_stalled,
        witness=when.STALLED,
        without="the kernel measures no pressure (boot it with psi=1)",
        threshold=0.1,
        alert="CoronerMemoryStalled",
        why=(
            "It spends its time on getting memory back instead of on its work:\n"
            "requests time out, and health checks fail before the OOM killer comes."
        ),
        fix=(
            "Give it more memory (docker update --memory N, resources.limits.memory; memory.high if that is set), or have it keep "
            "less in memory."
        ),
        runbook="memory-stalled",
    ),
    Rule(
        "paused",
        "warning",
        metrics=(when.FROZEN,),
        collectors=("lifecycle",),
        find=when.paused,
        witness=when.FROZEN,
        without="the kernel does not tell what is frozen (from Linux 5.2)",
        alert="CoronerPaused",
        why="It answers nothing and takes no stop signal, but holds its memory, locks and connections.\nHealth checks of others fail.",
        fix="docker unpause NAME; podman unpause NAME. If neither knows of it: echo 0 > cgroup.freeze in its cgroup.",
        runbook="paused",
    ),
    Rule(
        "cpu-throttled",
        "info",
        metrics=(when.PERIODS, when.THROTTLED),
        collectors=("cpu",),
        find=when.cpu_throttled,
        witness=when.PERIODS,
        without="the node has no cpu controller",
        threshold=0.25,
        alert="CoronerCpuThrottled",
        why=(
            "It waits for its quota though processors may be idle: latency, and probes that time out.\n"
            "Many threads use up a period's quota at once."
        ),
        fix=(
            "Raise the quota (docker update --cpus N, resources.limits.cpu) or drop it; or start fewer threads (GOMAXPROCS, "
            "-XX:ActiveProcessorCount)."
        ),
        runbook="cpu-throttled",
    ),
    Rule(
        "no-memory-limit",
        "info",
        metrics=(when.USAGE, when.NEAREST, when.LIMIT),
        collectors=("memory", "headroom"),
        find=when.no_memory_limit,
        finds_absence=True,
        witness=when.USAGE,
        without=_NO_MEMORY,
        why="If it leaks, the node runs out of memory,\nand the OOM killer chooses among all processes there are.",
        fix="docker run --memory N, mem_limit in Compose, resources.limits.memory.",
        runbook="no-memory-limit",
    ),
    Rule(
        "created-never-started",
        "info",
        metrics=(when.CREATED,),
        collectors=("life",),
        sources=("docker",),
        find=when.created_never_started,
        threshold=3600,
        alert="CoronerCreatedNeverStarted",
        why=(
            "Somebody made it and forgot it, or what should have started it failed in between:\n"
            "a port that is taken, a mount that is not there."
        ),
        fix="docker start NAME says what is wrong; docker rm NAME if nobody needs it.",
        runbook="created-never-started",
    ),
    Rule(
        "runtime-socket-mounted",
        "info",
        metrics=(when.SOCKET,),
        collectors=("isolation",),
        find=when.runtime_socket,
        witness=when.SOCKET,
        without=_NO_ISOLATION,
        why="Whoever gets into the container can start another one with all of the node in it:\nits isolation is none.",
        fix="Remove the mount; what only reads can have a proxy that lets nothing else through.",
        runbook="isolation",
    ),
    Rule(
        "extra-capabilities",
        "info",
        metrics=(when.CAPABILITIES,),
        collectors=("isolation",),
        find=when.capabilities,
        witness=when.CAPABILITIES,
        without=_NO_ISOLATION,
        why="What breaks into the program may do with the node what these capabilities allow.",
        fix=(
            "Drop --privileged and --cap-add, or all but the one that it needs: --cap-drop ALL --cap-add ONE, securityContext.capabilities."
        ),
        runbook="isolation",
    ),
    Rule(
        "several-services",
        "info",
        metrics=(when.SERVICES,),
        collectors=("services",),
        sources=("cgroup", "proc"),
        find=when.several_services,
        witness=when.SERVICES,
        without="the processes of no container can be told apart",
        threshold=1,
        why="The runtime watches PID 1 alone: a service beside it may die unseen,\nand all of them share one limit and one restart.",
        fix="One service in a container; what belongs beside it is a native sidecar (an init container with restartPolicy: Always).",
        runbook="several-services",
    ),
)
"""Those of the node first, then of containers: the worst, and what is nearest to a death, first."""
