"""The fields of the kinds that examples/places uses, with the types of their values.

Not all that the APIs have: a manifest with a field that is not here fails, and whoever adds one looks up how
it is spelt. A dict is an object with these fields, `[x]` a list of x, `{str: x}` a map with any keys, a tuple
the values that are allowed.
"""

META = {"name": str, "generateName": str, "namespace": str, "labels": {str: str}, "annotations": {str: str}}

CAPABILITIES = ["AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE",
                "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"]
# By the Pod Security Standard "baseline" a container may add the above, and no other.
BASELINE = frozenset(CAPABILITIES)

PROFILE = {"type": ("Unconfined", "RuntimeDefault", "Localhost"), "localhostProfile": str}
CONTAINER_SECURITY = {
    "runAsUser": int, "runAsGroup": int, "runAsNonRoot": bool, "allowPrivilegeEscalation": bool, "privileged": bool,
    "readOnlyRootFilesystem": bool, "procMount": ("Default", "Unmasked"), "seccompProfile": PROFILE,
    "appArmorProfile": PROFILE,
    "capabilities": {"add": [(*CAPABILITIES, "SYS_ADMIN")], "drop": [("ALL",)]},
}
POD_SECURITY = {"runAsUser": int, "runAsGroup": int, "runAsNonRoot": bool, "fsGroup": int, "seccompProfile": PROFILE,
                "appArmorProfile": PROFILE}
ENV = [{"name": str, "value": str, "valueFrom": {"secretKeyRef": {"name": str, "key": str}}}]
VOLUME_MOUNTS = [{"name": str, "mountPath": str, "readOnly": bool, "subPath": str}]
CONTAINER = {"name": str, "image": str, "command": [str], "args": [str], "workingDir": str, "env": ENV,
             "securityContext": CONTAINER_SECURITY, "volumeMounts": VOLUME_MOUNTS,
             "resources": {"requests": {str: str}, "limits": {str: str}}}
SECRET = {"secretName": str, "items": [{"key": str, "path": str}], "optional": bool}
VOLUMES = [{"name": str, "emptyDir": {"medium": ("Memory",), "sizeLimit": str}, "secret": SECRET,
            "persistentVolumeClaim": {"claimName": str}, "configMap": {"name": str}}]
POD = {"restartPolicy": ("Never", "OnFailure", "Always"), "automountServiceAccountToken": bool, "hostUsers": bool,
       "serviceAccountName": str, "securityContext": POD_SECURITY, "initContainers": [CONTAINER],
       "containers": [CONTAINER], "volumes": VOLUMES}
ON_EXIT = {"containerName": str, "operator": ("In", "NotIn"), "values": [int]}
JOB = {"backoffLimit": int, "activeDeadlineSeconds": int, "ttlSecondsAfterFinished": int,
       "podFailurePolicy": {"rules": [{"action": ("FailJob", "Ignore", "Count"), "onExitCodes": ON_EXIT,
                                       "onPodConditions": [{"type": ("DisruptionTarget",), "status": str}]}]},
       "template": {"metadata": META, "spec": POD}}

TEKTON_STEP = {"name": str, "image": str, "workingDir": str, "env": ENV, "args": [str], "command": [str], "script": str,
               "securityContext": CONTAINER_SECURITY, "volumeMounts": VOLUME_MOUNTS}
TASK = {"params": [{"name": str, "description": str, "type": ("string", "array", "object"), "default": (str, [str])}],
        "workspaces": [{"name": str, "description": str, "optional": bool, "mountPath": str, "readOnly": bool}],
        "results": [{"name": str, "description": str}], "steps": [TEKTON_STEP], "volumes": VOLUMES}
TASK_RUN = {"taskRef": {"name": str}, "params": [{"name": str, "value": (str, [str])}],
            "workspaces": [{"name": str, "persistentVolumeClaim": {"claimName": str}, "secret": SECRET,
                            "emptyDir": {}}]}

STRATEGY = {"type": ("RunAsAny", "MustRunAs", "MustRunAsRange", "MustRunAsNonRoot")}
SCC = {**{name: bool for name in (
    "allowHostDirVolumePlugin", "allowHostIPC", "allowHostNetwork", "allowHostPID", "allowHostPorts",
    "allowPrivilegeEscalation", "allowPrivilegedContainer", "readOnlyRootFilesystem")},
    **{name: [str] for name in ("allowedCapabilities", "defaultAddCapabilities", "requiredDropCapabilities",
                                "seccompProfiles", "volumes", "users", "groups")},
    **{name: STRATEGY for name in ("runAsUser", "seLinuxContext", "fsGroup", "supplementalGroups")},
    "priority": (int, None)}

# (apiVersion, kind) -> fields besides apiVersion, kind and metadata.
KINDS = {
    ("v1", "Namespace"): {},
    ("v1", "ServiceAccount"): {},
    ("v1", "Pod"): {"spec": POD},
    ("v1", "PersistentVolumeClaim"): {"spec": {
        "accessModes": [("ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod")], "storageClassName": str,
        "resources": {"requests": {"storage": str}}}},
    ("batch/v1", "Job"): {"spec": JOB},
    ("tekton.dev/v1", "Task"): {"spec": TASK},
    ("tekton.dev/v1", "TaskRun"): {"spec": TASK_RUN},
    ("security.openshift.io/v1", "SecurityContextConstraints"): SCC,
    ("rbac.authorization.k8s.io/v1", "Role"): {
        "rules": [{"apiGroups": [str], "resources": [str], "resourceNames": [str], "verbs": [str]}]},
    ("rbac.authorization.k8s.io/v1", "RoleBinding"): {
        "roleRef": {"apiGroup": str, "kind": str, "name": str},
        "subjects": [{"kind": str, "name": str, "namespace": str}]},
}

STEPS = [{"uses": str, "name": str, "run": str, "env": {str: str}, "with": {str: str}, "shell": str}]
WORKFLOW = {
    "name": str, "on": {"push": {"branches": [str], "tags": [str]}, "pull_request": {}},
    "jobs": {str: {
        "runs-on": str, "permissions": {str: ("read", "write", "none")}, "steps": STEPS, "env": {str: str},
        "container": {"image": str, "credentials": {"username": str, "password": str}, "options": str,
                      "volumes": [str], "env": {str: str}}}}}
GITLAB = {str: {
    "stage": str, "image": {"name": str, "entrypoint": [str]}, "variables": {str: str}, "script": [str],
    "before_script": [str], "retry": {"max": int, "exit_codes": [int]}, "rules": [{"if": str}]}}


def wrong(value, schema, where=""):
    """What of `value` is not as `schema` says: a list of sentences."""
    if isinstance(schema, tuple):
        plain = [s for s in schema if not isinstance(s, (type, list, dict))]
        if any(value is s or value == s for s in plain):
            return []
        shapes = [s for s in schema if isinstance(s, (type, list, dict))]
        tries = [wrong(value, s, where) for s in shapes]
        return [] if [] in tries else [f"{where}: {value!r} is none of {schema}"]
    if isinstance(schema, list):
        if not isinstance(value, list):
            return [f"{where}: {value!r} is no list"]
        return [w for n, item in enumerate(value) for w in wrong(item, schema[0], f"{where}[{n}]")]
    if isinstance(schema, dict):
        if not isinstance(value, dict):
            return [f"{where}: {value!r} is no object"]
        anything = schema.get(str)
        found = []
        for key, item in value.items():
            known = schema.get(key, anything)
            found += wrong(item, known, f"{where}.{key}") if known is not None else [f"{where}: no field {key!r}"]
        return found
    return [] if type(value) is schema else [f"{where}: {value!r} is no {schema.__name__}"]


def wrong_manifest(document):
    """The same for a manifest of Kubernetes, Tekton or OpenShift, with its own kind."""
    kind = (document.get("apiVersion"), document.get("kind"))
    if kind not in KINDS:
        return [f"no such kind: {kind}"]
    fields = {"apiVersion": str, "kind": str, "metadata": META, **KINDS[kind]}
    return wrong(document, fields, kind[1])


def pods(document):
    """The pod specifications in a manifest."""
    if document["kind"] == "Pod":
        return [document["spec"]]
    return [document["spec"]["template"]["spec"]] if document["kind"] == "Job" else []
