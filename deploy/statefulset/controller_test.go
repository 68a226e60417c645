package statefulset

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
)

// sync is one turn of the controller: what is missing is made, what is too
// many is deleted, and the highest pod of another revision is replaced when all
// above it are well.
func (s *set) sync(running *sync.WaitGroup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, p := range s.pods {
		select {
		case <-p.gone:
			delete(s.pods, i)
			if keep := s.objects.set.Spec.PersistentVolumeClaimRetentionPolicy; i >= s.replicas && keep != nil &&
				keep.WhenScaled == appsv1.DeletePersistentVolumeClaimRetentionPolicyType {
				s.note(s.wipe(p))
			}
		default:
		}
	}
	ordered := s.objects.set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement
	long := time.Duration(s.objects.set.Spec.MinReadySeconds) * time.Second
	for i := range s.replicas {
		p := s.pods[i]
		if p == nil {
			s.create(i, running)
		}
		if ordered && (p == nil || !p.available(long)) {
			return
		}
	}
	for _, i := range slices.Backward(slices.Sorted(maps.Keys(s.pods))) {
		p := s.pods[i]
		if i < s.replicas {
			break
		}
		if !p.terminating() {
			p.remove(p.grace())
		}
		if ordered {
			return
		}
	}
	s.replace(long)
}

// replace is a rolling update's next step.
func (s *set) replace(long time.Duration) {
	if s.objects.set.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType {
		return
	}
	for i := s.replicas - 1; i >= s.partition; i-- {
		p := s.pods[i]
		if p == nil {
			return
		}
		if p.revision != s.update && !p.terminating() {
			p.remove(p.grace())
			return
		}
		if !p.available(long) {
			return
		}
	}
	if s.partition == 0 {
		s.current = s.update
	}
}

// create is called with the lock held.
func (s *set) create(i int, running *sync.WaitGroup) {
	revision := s.update
	if i < s.partition {
		revision = s.current
	}
	p, err := s.newPod(i, revision)
	if err != nil {
		s.note(err)
		return
	}
	s.pods[i] = p
	s.trace.Note("%s (%s): created, revision %s", p.name, p.ip, p.revision)
	running.Go(p.run)
}

// done returns nil once the set is as it is wanted.
func (s *set) done() error {
	long := time.Duration(s.objects.set.Spec.MinReadySeconds) * time.Second
	pods := s.all()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(pods) != s.replicas {
		return fmt.Errorf("there are %d pods, %d are wanted", len(pods), s.replicas)
	}
	for i, p := range pods {
		if p.ordinal != i || !p.available(long) {
			return fmt.Errorf("%s is not available", p.name)
		}
		if i >= s.partition && p.revision != s.update {
			return fmt.Errorf("%s is of revision %s, %s is wanted", p.name, p.revision, s.update)
		}
	}
	return nil
}
