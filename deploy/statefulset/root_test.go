package statefulset

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// furnish makes the environment and the file system of the pod's container: what
// the image has, what every container finds, and its volumes.
func (p *pod) furnish() (err error) {
	c := &p.spec().Containers[0]
	if p.env, err = p.set.objects.environment(p.set.image.env, p); err != nil {
		return err
	}
	if err := os.MkdirAll(p.root, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", p.root, "tmpfs", 0, "mode=0755,size=16m"); err != nil {
		return fmt.Errorf("mount a root for %s: %w", p.name, err)
	}
	for at, from := range p.set.image.files {
		if err := p.bind(from, at, false); err != nil {
			return err
		}
	}
	for _, dir := range []string{"/proc", "/dev"} {
		if err := p.bind(dir, dir, true); err != nil {
			return err
		}
	}
	domain := p.set.domain()
	err = errors.Join(
		p.write("/etc/resolv.conf", resolvConf(p.set.namespace())),
		p.write("/etc/hosts", fmt.Sprintf("127.0.0.1\tlocalhost\n%s\t%s.%s\t%s\n", p.ip, p.name, domain, p.name)),
	)
	if err != nil {
		return err
	}
	for _, m := range c.VolumeMounts {
		from, err := p.volume(m.Name)
		if err == nil {
			err = p.bind(from, m.MountPath, true)
		}
		if err == nil && m.ReadOnly {
			err = unix.Mount("", filepath.Join(p.root, m.MountPath), "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
		}
		if err != nil {
			return fmt.Errorf("volume %s of %s: %w", m.Name, p.name, err)
		}
	}
	if s := c.SecurityContext; s != nil && s.ReadOnlyRootFilesystem != nil && *s.ReadOnlyRootFilesystem {
		return unix.Mount("", p.root, "", unix.MS_REMOUNT|unix.MS_RDONLY, "mode=0755,size=16m")
	}
	return nil
}

// clear takes the file system away; claims stay.
func (p *pod) clear() error {
	if err := unix.Unmount(p.root, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the root of %s: %w", p.name, err)
	}
	return os.RemoveAll(filepath.Dir(p.root))
}

// bind makes a file or folder of this machine appear in the pod.
func (p *pod) bind(from, at string, folder bool) error {
	target := filepath.Join(p.root, at)
	if folder {
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
	} else if err := p.write(at, ""); err != nil {
		return err
	}
	if err := unix.Mount(from, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s: %w", from, err)
	}
	return nil
}

func (p *pod) write(at, text string) error {
	target := filepath.Join(p.root, at)
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	return os.WriteFile(target, []byte(text), 0o644)
}

// volume returns the folder of a volume, made when it is not there.
func (p *pod) volume(name string) (string, error) {
	for _, claim := range p.set.objects.set.Spec.VolumeClaimTemplates {
		if claim.Name == name {
			return p.own(p.set.claim(name, p.name))
		}
	}
	dir := filepath.Join(filepath.Dir(p.root), "volume-"+name)
	for _, v := range p.spec().Volumes {
		if v.Name != name {
			continue
		}
		dir, err := p.own(dir)
		switch {
		case err != nil || v.EmptyDir != nil:
			return dir, err
		case v.ConfigMap != nil:
			return dir, p.fill(dir, "ConfigMap/"+v.ConfigMap.Name, v.ConfigMap.Items, v.ConfigMap.DefaultMode)
		default:
			return dir, p.fill(dir, "Secret/"+v.Secret.SecretName, v.Secret.Items, v.Secret.DefaultMode)
		}
	}
	return "", errors.New("nothing has this name")
}

// own makes a folder that the pod's group may write to, as fsGroup asks.
func (p *pod) own(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	s := p.spec().SecurityContext
	if os.Geteuid() != 0 || s == nil || s.FSGroup == nil {
		return dir, nil
	}
	return dir, errors.Join(os.Chown(dir, 0, int(*s.FSGroup)), os.Chmod(dir, os.ModeSetgid|0o775))
}

// fill writes the keys of a config map or secret into a folder.
func (p *pod) fill(dir, object string, items []corev1.KeyToPath, mode *int32) error {
	data, ok := p.set.objects.data[object]
	if !ok {
		return fmt.Errorf("there is no %s", object)
	}
	if len(items) == 0 {
		for key := range data {
			items = append(items, corev1.KeyToPath{Key: key, Path: key})
		}
	}
	perm := os.FileMode(0o644)
	if mode != nil {
		perm = os.FileMode(*mode)
	}
	for _, item := range items {
		value, ok := data[item.Key]
		if !ok {
			return fmt.Errorf("%s has no key %s", object, item.Key)
		}
		if item.Mode != nil {
			perm = os.FileMode(*item.Mode)
		}
		if err := os.WriteFile(filepath.Join(dir, item.Path), []byte(value), perm); err != nil {
			return err
		}
	}
	return nil
}
