// Package dev runs a whole local cluster: nodes as processes of their own, a
// Postgres for the archive, Envoys, a demo upstream and a sample fleet, all
// on 127.0.0.1. Its goroutines belong to Run and end with it.
package dev
