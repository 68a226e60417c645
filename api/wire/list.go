package wire

// List is one page of a collection.
type List[T any] struct {
	Items []T `json:"items"`
	// Next is the cursor of the next page, absent on the last.
	Next string `json:"next,omitempty"`
}
