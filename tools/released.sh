#!/usr/bin/env bash
# The images of a release as values of the chart: by digest, and only if the release's own workflow
# signed them. So what was verified is what runs, whatever becomes of the tag.
#
#     tools/released.sh OWNER/REPOSITORY vX.Y.Z > images.yaml
set -euo pipefail
repository=$1 version=$2
owner=${repository%%/*}
# GHCR's names are lower case, GitHub's are as their owner writes them.
registry=ghcr.io/${owner,,}

printf 'images:\n  registry: %s\n  tag: %s\n  digests:\n' "$registry" "${version#v}"
for image in connect flink serving; do
  digest=$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' \
    "$registry/$image:${version#v}")
  cosign verify "$registry/$image@$digest" \
    --certificate-identity \
    "https://github.com/$repository/.github/workflows/release.yml@refs/tags/$version" \
    --certificate-oidc-issuer https://token.actions.githubusercontent.com >&2
  printf '    %s: %s\n' "$image" "$digest"
done
