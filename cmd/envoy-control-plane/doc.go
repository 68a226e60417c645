// Command envoy-control-plane is a node of the control plane cluster (serve),
// and a whole local cluster in one command (dev).
//
// It owns the configuration and the order in which the parts start and stop;
// everything else is in the packages that it joins.
package main
