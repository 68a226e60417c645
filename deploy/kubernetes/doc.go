// Package kubernetes tests the chart, the plain manifests and the scripts' calls
// of kubectl on a real API server, with Kubernetes' own controllers and kubectl
// and Debian's etcd. Nothing runs in the pods: a stand-in for scheduler and
// kubelet binds them to machines that there are not, and says that they are
// ready. What becomes of the nodes in them is what deploy/statefulset tests.
//
// All of it has the build tag deploy: Kubernetes' programs are built first
// (`make kubernetes`), which takes minutes.
package kubernetes
