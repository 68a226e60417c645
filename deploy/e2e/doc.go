// Package e2e holds the end-to-end tests: real node processes, a real
// Postgres, real Envoys, driven by ecpctl and plain HTTP as an operator would.
package e2e
