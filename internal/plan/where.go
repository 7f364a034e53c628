package plan

// Where implements [Step].
func (s CreatePool) Where() string    { return s.Pool.Hypervisor }
func (s DeletePool) Where() string    { return s.Pool.Hypervisor }
func (s CreateNetwork) Where() string { return s.Network.Hypervisor }
func (s UpdateNetwork) Where() string { return s.New.Hypervisor }
func (s DeleteNetwork) Where() string { return s.Network.Hypervisor }
func (s CreateTaps) Where() string    { return s.Hypervisor }
func (s DeleteTaps) Where() string    { return s.Hypervisor }
func (s CreateNode) Where() string    { return s.Node.Hypervisor }
func (s UpdateNode) Where() string    { return s.New.Hypervisor }
func (s DeleteNode) Where() string    { return s.Node.Hypervisor }
func (s CreateBMCs) Where() string    { return s.Hypervisor }
func (s UpdateBMCs) Where() string    { return s.Hypervisor }
func (s DeleteBMCs) Where() string    { return s.Hypervisor }
func (s RememberCloud) Where() string { return s.Cloud.Hypervisor }
func (s ForgetCloud) Where() string   { return s.Cloud.Hypervisor }
func (Enrol) Where() string           { return "" }
func (UpdateEnrolment) Where() string { return "" }
func (Unenrol) Where() string         { return "" }

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
