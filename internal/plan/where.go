package plan

// Where implements [Step].
func (s CreatePool) Where() string { return s.Pool.Hypervisor }

// Where implements [Step].
func (s DeletePool) Where() string { return s.Pool.Hypervisor }

// Where implements [Step].
func (s CreateNetwork) Where() string { return s.Network.Hypervisor }

// Where implements [Step].
func (s UpdateNetwork) Where() string { return s.New.Hypervisor }

// Where implements [Step].
func (s DeleteNetwork) Where() string { return s.Network.Hypervisor }

// Where implements [Step].
func (s CreateTaps) Where() string { return s.Hypervisor }

// Where implements [Step].
func (s DeleteTaps) Where() string { return s.Hypervisor }

// Where implements [Step].
func (s CreateNode) Where() string { return s.Node.Hypervisor }

// Where implements [Step].
func (s UpdateNode) Where() string { return s.New.Hypervisor }

// Where implements [Step].
func (s DeleteNode) Where() string { return s.Node.Hypervisor }

// Where implements [Step].
func (s CreateBMCs) Where() string { return s.Hypervisor }

// Where implements [Step].
func (s UpdateBMCs) Where() string { return s.Hypervisor }

// Where implements [Step].
func (s DeleteBMCs) Where() string { return s.Hypervisor }

// Where implements [Step].
func (s RememberCloud) Where() string { return s.Cloud.Hypervisor }

// Where implements [Step].
func (s ForgetCloud) Where() string { return s.Cloud.Hypervisor }

// Where implements [Step]: it happens in the bare metal service.
func (Enrol) Where() string { return "" }

// Where implements [Step]: it happens in the bare metal service.
func (UpdateEnrolment) Where() string { return "" }

// Where implements [Step]: it happens in the bare metal service.
func (Unenrol) Where() string { return "" }

func (CreatePool) step()      {}
func (DeletePool) step()      {}
func (CreateNetwork) step()   {}
func (UpdateNetwork) step()   {}
func (DeleteNetwork) step()   {}
func (CreateTaps) step()      {}
func (DeleteTaps) step()      {}
func (CreateNode) step()      {}
func (UpdateNode) step()      {}
func (DeleteNode) step()      {}
func (CreateBMCs) step()      {}
func (UpdateBMCs) step()      {}
func (DeleteBMCs) step()      {}
func (RememberCloud) step()   {}
func (ForgetCloud) step()     {}
func (Enrol) step()           {}
func (UpdateEnrolment) step() {}
func (Unenrol) step()         {}
