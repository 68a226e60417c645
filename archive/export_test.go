package archive

// Steps of the writer's work, in order.
var Steps = []string{
	string(stepClaim), string(stepCursor), string(stepRows), string(stepCommit), string(stepAck), string(stepDone),
}

// At has f called before each step; an error ends the writer there. To be
// called before Run.
func (a *Archive) At(f func(string) error) {
	a.at = func(s step) error { return f(string(s)) }
}
