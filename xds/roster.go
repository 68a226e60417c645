package xds

// roster is a set of streams, in the order in which they came as long as none
// leaves: what streams consist of lies in memory in that order, and with ten
// thousand of them a fan-out in another order costs half as much again.
type roster struct {
	streams []*stream
	// place is where a stream keeps its index.
	place func(*stream) *int
}

// add adds a stream that is in no roster with the same places.
func (r *roster) add(st *stream) {
	*r.place(st) = len(r.streams)
	r.streams = append(r.streams, st)
}

// remove removes a stream; the last takes its place.
func (r *roster) remove(st *stream) {
	i, last := *r.place(st), len(r.streams)-1
	moved := r.streams[last]
	r.streams[i], *r.place(moved) = moved, i
	r.streams[last] = nil
	r.streams = r.streams[:last]
}

func inScope(st *stream) *int { return &st.inScope }

func inEndpoints(st *stream) *int { return &st.inEndpoints }

func inSecrets(st *stream) *int { return &st.inSecrets }
