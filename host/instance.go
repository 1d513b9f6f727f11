package host

import (
	"errors"
	"strings"

	"serve/loader"
	"serve/pool"
)

// Instance adapts a loaded model for the server.
func Instance(in *loader.Loaded) *pool.Instance {
	s := &pool.Instance{
		Engine:  in.Engine,
		Done:    in.Done,
		Stop:    in.Stop,
		Kernels: in.Kernels,
		Devices: func() ([]pool.DeviceInfo, string) { return computing(in) },
		Memory:  func() []pool.MemoryUse { return deviceMemory(in) },
		Failed:  func() error { return LoadError(in.Failed()) },
	}

	for _, d := range deviceMemory(in) {
		s.Bytes += d.Planned
		s.Later += d.Later
	}

	if in.Process != nil {
		s.Process = func() pool.ProcessUse {
			return pool.ProcessUse{ID: in.Process(), Resident: in.Resident()}
		}
	}
	return s
}

// computing adapts the devices that a model runs on for the server.
func computing(in *loader.Loaded) (list []pool.DeviceInfo, whyProcessor string) {
	devices, why := in.Computing()
	for _, d := range devices {
		list = append(list, pool.DeviceInfo{Name: d.Name, Description: strings.TrimSpace(d.Description)})
	}
	return list, why
}

// deviceMemory adapts a model's memory on devices for the server.
func deviceMemory(in *loader.Loaded) (list []pool.MemoryUse) {
	for _, u := range in.Usage() {
		if u.Planned.Most() > 0 {
			list = append(list, pool.MemoryUse{
				Device:  u.Planned.Name,
				Planned: u.Planned.Needs(),
				Later:   u.Planned.Later + u.Planned.Saved,
				Taken:   u.Taken,
			})
		}
	}
	return list
}

// LoadError converts the errors of a load that the server handles.
func LoadError(err error) error {
	var short *loader.MemoryError
	var missing *loader.DeviceError
	switch {
	case errors.As(err, &short):
		return &pool.NoRoomError{Err: err, Short: short.Short}
	case errors.As(err, &missing):
		return &pool.UnavailableError{Err: err}
	}
	return err
}
