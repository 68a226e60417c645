// Package statefulset runs the StatefulSet of the Kubernetes manifests without
// Kubernetes. A driver reads deploy/k8s, as it is rendered, and does what the
// controller, kubelet, the DNS and the services do of it: each pod is the
// program of the Dockerfile in a network namespace, with an IP of its own, and
// a file system of its own, as the user of its security context; with command,
// environment, probes, preStop and grace period of its container, and volumes
// that stay. What the manifests ask of a pod and the driver does not do is an
// error.
//
// TestStatefulSet does to it what happens to sets: updates, scaling, evictions,
// lost machines, all pods killed. Meanwhile clients write and read through the
// API's service, as deploy/faults has them, proxies are connected, and HTTP
// requests go through a real Envoy. In the end each write that was acknowledged
// has to be in the state of every node, the history linearizable, no request
// through the Envoy failed, and no proxy sent anything older than it had. Where
// a majority lived on, no request to the API may have failed twice, and no proxy
// been sent again what it had.
//
// A short form is part of `make test`; `make deploy-test` (build tag deploy) has
// all scenarios, with 1,000 proxies. It takes root or, without it, user
// namespaces, where pods run as the present user.
package statefulset
