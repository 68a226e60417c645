package history

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// checkTime bounds the search for a linearization.
const checkTime = time.Minute

// content is the state of a key: the revision, of a fleet, and the operation
// that wrote last.
type content struct {
	revision uint64
	value    int
}

// effect is the whole model: what an operation may do to the content of its key.
// One whose end is unknown may take effect at any time after its call, also
// after the last read, which is as good as never.
func effect(s content, o *Operation) (bool, content) {
	switch o.Kind {
	case Put:
		return true, content{value: o.ID}
	case Get:
		return o.Value == s.value, s
	case Last:
		return o.Value == s.value && o.Revision == s.revision, s
	}
	next := content{s.revision + 1, o.ID}
	holds := o.Kind == Append || o.Expect == s.revision
	switch o.End {
	case Applied:
		return holds && o.Revision == next.revision, next
	case Refused:
		return !holds, s
	default:
		if !holds {
			return true, s
		}
		return true, next
	}
}

func model() porcupine.Model {
	return porcupine.Model{
		Partition: byKey,
		Init:      func() any { return content{} },
		Step: func(state, input, _ any) (bool, any) {
			ok, next := effect(state.(content), input.(*Operation)) //nolint:forcetypeassert // nothing else is put in
			return ok, next
		},
		DescribeOperation: func(input, _ any) string {
			o := input.(*Operation) //nolint:forcetypeassert // the same
			return fmt.Sprintf("#%d %s %s expect=%d: %s value=#%d revision=%d", o.ID, o.Kind, o.Key, o.Expect, o.End, o.Value, o.Revision)
		},
		DescribeState: func(state any) string { return fmt.Sprintf("%+v", state) },
	}
}

func byKey(ops []porcupine.Operation) [][]porcupine.Operation {
	keys := map[string][]porcupine.Operation{}
	for _, o := range ops {
		key := o.Input.(*Operation).Key //nolint:forcetypeassert // the same
		keys[key] = append(keys[key], o)
	}
	var all [][]porcupine.Operation
	for _, key := range slices.Sorted(keysOf(keys)) {
		all = append(all, keys[key])
	}
	return all
}

func keysOf[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// Check returns an error for a history that is not linearizable, and draws it
// into a file.
func Check(ops []*Operation, drawing string) error {
	var all []porcupine.Operation
	seen := seenValues(ops)
	for _, o := range ops {
		switch {
		case o.End == Nothing:
			continue // certainly not applied: what it wrote is in no state, see check
		case o.End == Unknown && !o.Writes():
			continue // a read that brought no answer
		case o.End == Unknown && o.Kind == Put && !seen[o.ID]:
			continue // changes nothing that anybody saw, and costs the search much
		}
		back := o.Return
		if o.End == Unknown {
			back = math.MaxInt64
		}
		all = append(all, porcupine.Operation{ClientId: o.Client, Input: o, Call: o.Call, Return: back})
	}
	slices.SortStableFunc(all, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	m := model()
	result, info := porcupine.CheckOperationsVerbose(m, all, checkTime)
	if result == porcupine.Ok {
		return nil
	}
	err := os.MkdirAll(filepath.Dir(drawing), 0o750)
	if err == nil {
		err = porcupine.VisualizePath(m, info, drawing)
	}
	if err != nil {
		return fmt.Errorf("draw the history: %w", err)
	}
	if result == porcupine.Unknown {
		return fmt.Errorf("no linearization of %d operations was found within %s, nor that there is none", len(all), checkTime)
	}
	return fmt.Errorf("the history is not linearizable: see %s", drawing)
}

func seenValues(ops []*Operation) map[int]bool {
	seen := map[int]bool{}
	for _, o := range ops {
		if !o.Writes() && o.End == Applied {
			seen[o.Value] = true
		}
	}
	return seen
}
