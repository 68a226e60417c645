package statefulset

import (
	"errors"

	"k8s.io/apimachinery/pkg/util/intstr"
)

var errBudget = errors.New("429: the disruption budget does not allow it")

// evict deletes a pod if the budget allows it.
func (s *set) evict(p *pod) error {
	pods := s.all()
	s.mu.Lock()
	expected := s.replicas
	s.mu.Unlock()
	healthy := 0
	for _, other := range pods {
		if other.ready() {
			healthy++
		}
	}
	wanted, err := s.healthyWanted(expected)
	if err != nil {
		return err
	}
	if p.ready() && healthy-1 < wanted || !p.ready() && healthy < wanted {
		return errBudget
	}
	p.remove(p.grace())
	return nil
}

// healthyWanted is how many healthy pods the budget wants.
func (s *set) healthyWanted(expected int) (int, error) {
	spec := s.objects.budget.Spec
	switch {
	case spec.MaxUnavailable != nil:
		n, err := scaled(spec.MaxUnavailable, expected)
		return expected - n, err
	case spec.MinAvailable != nil:
		return scaled(spec.MinAvailable, expected)
	}
	return 0, errors.New("the disruption budget has neither maxUnavailable nor minAvailable")
}

func scaled(n *intstr.IntOrString, of int) (int, error) {
	return intstr.GetScaledValueFromIntOrPercent(n, of, true)
}
