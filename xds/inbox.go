package xds

// inbox is what a stream's reader waits with for the next request. The request
// itself exists only while it is taken in: most streams wait most of the time.
type inbox struct {
	server  *Server
	stream  *stream // nil before the first request
	delta   bool
	request *request
}

// open returns the request to decode a message into.
func (in *inbox) open() *request {
	r, ok := in.server.requests.Get().(*request)
	if !ok {
		r = &request{}
	}
	r.delta, r.limit, r.subs, r.seed = in.delta, in.server.config.MaxNames, in.server.subs, in.server.seed
	if in.stream != nil {
		r.types = in.stream.types // which only the reader changes
	}
	in.request = r
	return r
}

// done forgets the request, if there is one, and gives back what it has of the
// budget.
func (in *inbox) done() {
	r := in.request
	if r == nil {
		return
	}
	if r.share > 0 {
		in.server.budget.slots.Release(r.share)
	}
	r.raw.Free()
	in.server.subs.release(r.sub)
	*r = request{}
	in.server.requests.Put(r)
	in.request = nil
}
