"""What cannot work is refused before anything is installed, with a reason."""

from chart import environment, helm

SECRET = "--set=existingSecret.name=s"
FLEET = ["--set=replica.enabled=true", "--set=redis.address=r:6379"]
OFFLINE = [SECRET, "--set=offline.enabled=true"]
# The Secret is the chart's.
TRIED = ["--set=secret.proxyKey=p", "--set=secret.authSecret=a"]
CLIENTS = [SECRET, "--set=ca.clients.configMap=c"]

REFUSED = (
    ([], "existingSecret.name"),
    ([SECRET, "--set=replica.enabled=true"], "replica.enabled needs redis.address"),
    ([SECRET, "--set=replica.replicas=0"], "replica"),
    ([SECRET, "--set=primary.resource.limits=x"], "resource"),
    ([SECRET, "--set=service.type=Cluster"], "service"),
    ([SECRET, "--set=settings.GENERATE_OFFLINE_CONFIG=true"], "writes a directory and exits"),
    # What other objects follow is the same for every relay, and where they look for it.
    ([SECRET, "--set=primary.settings.PROMETHEUS_PORT=9100"], "PROMETHEUS_PORT goes into settings"),
    ([SECRET, "--set=extraEnv[0].name=PROMETHEUS_PORT"], "PROMETHEUS_PORT goes into settings"),
    ([SECRET, "--set=primary.extraEnv[0].name=TLS_CLIENT_CA"], "TLS_CLIENT_CA goes into settings"),
    ([SECRET, "--set=replica.extraEnv[0].name=AUTH_SECRET"], "AUTH_SECRET is set by the chart itself"),
    # One name, two values.
    ([SECRET, "--set=settings.LOG_LEVEL=INFO,extraEnv[0].name=LOG_LEVEL"], "there are two of LOG_LEVEL"),
    ([SECRET, "--set=settings.UPSTREAM_CA=/x,ca.upstream.configMap=c"], "there are two of UPSTREAM_CA"),
    ([SECRET, "--set=extraVolumes[0].name=secrets"], "there are two of secrets"),
    ([SECRET, "--set=extraVolumeMounts[0].name=x,extraVolumeMounts[0].mountPath=/data"],
     "there are two of /data"),
    ([SECRET, "--set=extraVolumes[0].emptyDir.medium=Memory"], "name"),
    ([SECRET, "--set=ca.redis.configMap=a,ca.redis.secret=b"], "ca.redis: set configMap or secret"),
    # Certificates of clients.
    (CLIENTS, "need tls.secretName"),
    ([SECRET, "--set=settings.TLS_CLIENT_CA=/ca"], "need tls.secretName"),
    ([*CLIENTS, "--set=tls.secretName=t,serviceMonitor.enabled=true"], "needs settings.PROMETHEUS_PORT"),
    # What Kubernetes would refuse, or what would do nothing.
    ([*TRIED, "--set=existingSecret.redisPassword=p"], "existingSecret.redisPassword names a key"),
    ([*TRIED, "--set=existingSecret.authSecretPrevious=p"], "existingSecret.authSecretPrevious names a key"),
    ([SECRET, *FLEET, "--set=replica.autoscaling.minReplicas=11"], "minReplicas (11) is above maxReplicas (10)"),
    ([SECRET, *FLEET, "--set=replica.podDisruptionBudget.maxUnavailable=abc"], "maxUnavailable"),
    ([SECRET, *FLEET, "--set=replica.podDisruptionBudget.maxUnavailable=0"], "maxUnavailable"),
    ([SECRET, *FLEET, "--set=replica.podDisruptionBudget.maxUnavailable=0%"], "maxUnavailable"),
    ([*OFFLINE, "--set=offline.podDisruptionBudget.maxUnavailable=0"], "maxUnavailable"),
    ([SECRET, "--set=settings.ADMIN_PORT=8000"], "8000 is the port of the API"),
    ([SECRET, "--set=primary.settings.ADMIN_PORT=9100,settings.PROMETHEUS_PORT=9100"],
     "ADMIN_PORT and PROMETHEUS_PORT are both 9100"),
    ([SECRET, "--set=nameOverride=My_Relay"], "nameOverride"),
    ([SECRET, "--set=fullnameOverride=relay."], "fullnameOverride"),
    ([SECRET, "--set=fullnameOverride=1relay"], "cannot be the name of a Service"),
    ([SECRET, "--set=serviceAccount.annotations.a=b"], "need serviceAccount.create"),
    ([SECRET, "--set=primary.podLabels.app\\.kubernetes\\.io/component=x"], "is set by the chart itself"),
    ([SECRET, "--set=networkPolicy.enabled=true", "--set=extraEnv[0].name=OTEL_EXPORTER_OTLP_ENDPOINT",
      "--set=extraEnv[0].valueFrom.secretKeyRef.name=s"], "let relays out to it by networkPolicy.egress"),
    # Offline.
    ([*OFFLINE, *FLEET], "offline.enabled and re"),
    ([*OFFLINE, "--set=redis.address=r:6379"], "offline.enabled and redis.address exclude each other"),
    ([*OFFLINE, "--set=offline.configMaps.e=c,offline.existingClaim=d"], "not both"),
    ([SECRET, "--set=offline.configMaps.e=c"], "need offline.enabled"),
    (["--set=offline.enabled=true"], "secret.authSecret"),
)


def refusals(rendered):
    """Of `rendered` comes every variable that the chart has a value of its own for."""
    for options, reason in REFUSED:
        refused(options, reason)
    # Whatever the chart may set by itself is refused in settings, unless it is a setting there.
    decided = {"PROXY_KEY", "AUTH_SECRET", "AUTH_SECRET_PREVIOUS", "REDIS_PASSWORD"}
    for objects, roles, settings in rendered:
        for role in roles:
            decided |= environment(objects, role).keys() - settings
    decided -= {"ADMIN_PORT", "UPSTREAM_CA", "REDIS_TLS_CA", "TLS_CLIENT_CA", "NO_PROXY"}
    assert {"PROXY_KEY_FILE", "AUTH_SECRET_FILE", "REDIS_PASSWORD_FILE", "OFFLINE"} <= decided
    for name in sorted(decided):
        refused([SECRET, f"--set=settings.{name}=1"], f"{name} is set by the chart itself: see ")


def refused(options, reason):
    text = helm("template", "fleet", "ff-relay", "--kube-version=1.31.0", *options, ok=False)
    assert reason in text, (options, text)
