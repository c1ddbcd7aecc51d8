"""What pods are besides what they run: how they stop, whose they are, and what a cluster asks of them."""

from chart import container, pod, render, selected


def pods(sets):
    stops()
    everything = sets["everything"]
    account = everything["ServiceAccount", "fleet-ff-relay"]
    assert account["metadata"]["annotations"] and account["automountServiceAccountToken"] is False
    assert all(pod(everything, role)["spec"]["serviceAccountName"] == "fleet-ff-relay"
               for role in ("primary", "replica"))
    primary, replica = pod(everything, "primary"), pod(everything, "replica")
    assert primary["spec"]["priorityClassName"] == "high" and "priorityClassName" not in replica["spec"]
    assert primary["metadata"]["labels"]["example.com/tier"] == "source"
    assert "example.com/tier" not in replica["metadata"]["labels"]
    # A label of a pod's is none that others are found by.
    for objects in sets.values():
        for (kind, _), found in objects.items():
            if kind in ("StatefulSet", "Deployment"):
                labels = found["spec"]["selector"]["matchLabels"]
                assert len(selected(objects, labels)) == 1 and len(labels) == 3, labels

    assert "serviceAccountName" not in pod(sets["single"], "primary")["spec"]
    named = render("--values=values/single.yaml", "--set=serviceAccount.name=theirs")
    assert pod(named, "primary")["spec"]["serviceAccountName"] == "theirs"
    assert not [kind for kind, _ in named if kind == "ServiceAccount"]

    # OpenShift gives users of a range of its own, and refuses others.
    given = [f"--set=podSecurityContext.{name}=null" for name in ("runAsUser", "runAsGroup", "fsGroup")]
    context = pod(render("--values=values/single.yaml", *given), "primary")["spec"]["securityContext"]
    assert context == {"runAsNonRoot": True, "fsGroupChangePolicy": "OnRootMismatch",
                       "seccompProfile": {"type": "RuntimeDefault"}}, context

    # A first install that never became ready is mended by an upgrade.
    for name in ("single", "ha", "offline"):
        spec = sets[name]["StatefulSet", "fleet-ff-relay-primary"]["spec"]
        assert spec["podManagementPolicy"] == "Parallel"


def stops():
    """A pod serves on until no node leads to it, where Kubernetes can wait; it is killed only when it
    had the time for that and for draining."""
    def waits(*options, **more):
        objects = render("--values=values/single.yaml", *options, **more)
        spec = pod(objects, "primary")["spec"]
        lifecycle = container(objects, "primary").get("lifecycle")
        return lifecycle and lifecycle["preStop"]["sleep"]["seconds"], spec["terminationGracePeriodSeconds"]

    assert waits() == waits(version="1.30") == (5, 35)
    assert waits(version="1.29") == (None, 30)
    assert waits("--set=preStopSeconds=0") == (None, 30)
    assert waits("--set=preStopSeconds=15", "--set=settings.DRAIN_SECONDS=60") == (15, 95)
