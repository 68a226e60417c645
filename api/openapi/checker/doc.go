// Package checker holds requests and answers of the REST API against its
// OpenAPI document while tests run. It is for tests: the binaries do not
// import it.
//
// A request that the document does not allow must be refused, an answer must
// be what the document promises, and what has no operation in the document
// must be answered with 404, 405 or the OPTIONS of its path.
package checker
