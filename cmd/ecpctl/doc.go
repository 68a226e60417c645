// Command ecpctl is the operator's way into a cluster of
// envoy-control-plane nodes: one verb a file, each on top of api/client.
//
// It keeps no state and decides nothing that a node decides. main handles
// signals and the exit code; everything else is behind run, which tests call.
//
// Answers go to standard output, everything that is said about them to
// standard error, so that -o json and -o yaml can be piped.
package main
