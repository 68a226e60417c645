// Package namespace runs tests in Linux namespaces of their own, with hosts
// inside: network namespaces on a bridge. Nothing of theirs outlives the test.
//
// It takes root or, without it, user namespaces. Only tests import it.
package namespace
