package faults

import (
	"errors"
	"math/rand/v2"
	"time"
)

// broken cuts the network in a way for a while.
func (c *cluster) broken(hold time.Duration, way func(a, b int) bool) error {
	if err := c.net.cut(way); err != nil {
		return errors.Join(err, c.net.heal())
	}
	time.Sleep(hold)
	return c.net.heal()
}

func cutOff(c *cluster, i int, hold time.Duration, _ *rand.Rand) error {
	return c.broken(hold, func(a, b int) bool { return a == i || b == i })
}

func deaf(c *cluster, i int, hold time.Duration, _ *rand.Rand) error {
	return c.broken(hold, func(_, b int) bool { return b == i })
}

func mute(c *cluster, i int, hold time.Duration, _ *rand.Rand) error {
	return c.broken(hold, func(a, _ int) bool { return a == i })
}

func oneLink(c *cluster, i int, hold time.Duration, r *rand.Rand) error {
	other := (i + 1 + r.IntN(size-1)) % size
	return c.broken(hold, func(a, b int) bool { return a == i && b == other || a == other && b == i })
}

func allApart(c *cluster, _ int, hold time.Duration, _ *rand.Rand) error {
	return c.broken(hold, func(int, int) bool { return true })
}

// flap cuts and heals faster than anything settles, each time another way.
func flap(c *cluster, i int, hold time.Duration, r *rand.Rand) error {
	for end := time.Now().Add(2 * hold); time.Now().Before(end); {
		way := r.IntN(3)
		err := c.broken(50*time.Millisecond+upTo(r, 500*time.Millisecond), func(a, b int) bool {
			return a == i && way != 0 || b == i && way != 1
		})
		if err != nil {
			return err
		}
		time.Sleep(upTo(r, 500*time.Millisecond))
	}
	return nil
}
