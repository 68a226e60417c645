#!/usr/bin/env bash
# Builds one of Kubernetes' own programs:
#   deploy/kubernetes/build.sh VERSION PROGRAM FILE
#
# `go install` refuses k8s.io/kubernetes, whose go.mod replaces modules by its
# own folders. So a module is made for a moment that has the same requirements
# and replaces them by the same modules as they are published.
set -euo pipefail

version="$1" program="$2" file="$(realpath -m "$3")"
minor="${version#v1.}" # v1.37.1 has k8s.io/api v0.37.1
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"

go mod init programs.invalid/kubernetes 2>/dev/null
kubernetes="$(go mod download -json "k8s.io/kubernetes@$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')"
sed -e 's|^module .*|module programs.invalid/kubernetes|' -e "s|=> \./staging/src/\(k8s.io/.*\)|=> \1 v0.$minor|" "$kubernetes/go.mod" > go.mod
echo "require k8s.io/kubernetes $version" >> go.mod
cp "$kubernetes/go.sum" .

said=()
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
  said+=(-X "$package.gitVersion=$version" -X "$package.gitMajor=1" -X "$package.gitMinor=${minor%%.*}")
done
mkdir -p "$(dirname "$file")"
CGO_ENABLED=0 go build -mod=mod -trimpath -ldflags "-s -w ${said[*]}" -o "$file" "k8s.io/kubernetes/cmd/$program"
