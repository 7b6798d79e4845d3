"""Makes an image of N layers, in the OCI layout, of the files of a tar.

    layers.py TAR N DIRECTORY
"""

import gzip
import hashlib
import io
import json
import os
import sys
import tarfile

source, count, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
os.makedirs(f"{out}/blobs/sha256")


def put(data, kind):
    name = hashlib.sha256(data).hexdigest()
    with open(f"{out}/blobs/sha256/{name}", "wb") as file:
        file.write(data)
    return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{name}", "size": len(data)}


with tarfile.open(source) as tar:
    files = [member for member in tar if member.isreg()]
    total = sum(member.size for member in files)
    layers, diffs, held, taken = [], [], [], 0
    for index, member in enumerate(files):
        held.append(member)
        taken += member.size
        # The last layer takes the rest, empty files at the archive's end included.
        full = taken * count >= total * (len(layers) + 1) and len(layers) + 1 < count
        if not full and index + 1 < len(files):
            continue
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w") as layer:
            for one in held:
                layer.addfile(one, tar.extractfile(one))
        data = raw.getvalue()
        diffs.append("sha256:" + hashlib.sha256(data).hexdigest())
        layers.append(put(gzip.compress(data, 6, mtime=0), "layer.v1.tar+gzip"))
        held = []

config = {
    "architecture": os.uname().machine.replace("x86_64", "amd64").replace("aarch64", "arm64"),
    "os": "linux",
    "config": {"Cmd": ["true"]},
    "rootfs": {"type": "layers", "diff_ids": diffs},
}
manifest = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "config": put(json.dumps(config).encode(), "config.v1+json"),
    "layers": layers,
}
entry = put(json.dumps(manifest).encode(), "manifest.v1+json")
entry["annotations"] = {"org.opencontainers.image.ref.name": "it"}
for name, value in (
    ("index.json", {"schemaVersion": 2, "manifests": [entry]}),
    ("oci-layout", {"imageLayoutVersion": "1.0.0"}),
):
    with open(f"{out}/{name}", "w") as file:
        json.dump(value, file)
print(f"{len(layers)} layers, {sum(layer['size'] for layer in layers) / 1e6:.0f} MB", file=sys.stderr)
