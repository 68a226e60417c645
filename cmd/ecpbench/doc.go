// Command ecpbench measures this repository's servers beside baselines that
// are part of it, in one run on one machine, and prints ratios.
//
// fanout and connect measure the xDS path alone: package xds on a state in
// memory, changed by commands that are applied directly. Consensus, disk and
// the REST API have no part in it. Beside it run
//
//	b0  a bare gRPC server that broadcasts frames encoded beforehand and
//	    counts acknowledgements without decoding them: what gRPC alone costs
//	b1  go-control-plane's SnapshotCache with one key that all nodes share
//
// The first of all, b0, is told nothing but whom a stream belongs to; when
// proxies come back with what they have, it believes them.
//
// A run is a number of rounds; in each, every server has its turn, and every
// other round the turns go backwards. A turn is a process of its own: this
// program, started again as "ecpbench server NAME", spoken to in lines of
// JSON over its standard input and output, ended before the next begins. All
// are made with the gRPC options of package xds; only codecs differ, which
// are what is compared. The proxies are this process: a connection and a
// stream each, the same for all servers, that look for type, version and nonce
// of a response and acknowledge it.
//
// write, read, failover and restore measure whole clusters: package trio starts
// three processes of envoy-control-plane on one disk and, where it is
// installed, of etcd with its defaults, which ratios are to; those of restore
// are to bare copies of the same bytes, of archive to a bare COPY and to a cluster
// without an archive, of events to one without subscribers. The clients are this process.
//
// CPU and memory of a server are read from /proc by this process, bytes from
// the sockets' TCP_INFO. Everything stays on 127.0.0.1, so that servers and
// proxies share the machine: absolute times say less than ratios.
package main
