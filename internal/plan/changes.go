package plan

// Changes implements [Step].
func (s CreatePool) Changes() []Change { return nil }

// Changes implements [Step].
func (s DeletePool) Changes() []Change { return nil }

// Changes implements [Step].
func (s CreateNetwork) Changes() []Change { return nil }

// Changes implements [Step].
func (s UpdateNetwork) Changes() []Change { return nil }

// Changes implements [Step].
func (s DeleteNetwork) Changes() []Change { return nil }

// Changes implements [Step].
func (s CreateTaps) Changes() []Change { return nil }

// Changes implements [Step].
func (s DeleteTaps) Changes() []Change { return nil }

// Changes implements [Step].
func (s CreateNode) Changes() []Change { return nil }

// Changes implements [Step].
func (s UpdateNode) Changes() []Change { return nil }

// Changes implements [Step].
func (s DeleteNode) Changes() []Change { return nil }

// Changes implements [Step].
func (s CreateBMCs) Changes() []Change { return nil }

// Changes implements [Step].
func (s UpdateBMCs) Changes() []Change { return nil }

// Changes implements [Step].
func (s DeleteBMCs) Changes() []Change { return nil }

// Changes implements [Step].
func (s RememberCloud) Changes() []Change { return nil }

// Changes implements [Step].
func (s ForgetCloud) Changes() []Change { return nil }

// Changes implements [Step].
func (s Enrol) Changes() []Change { return nil }

// Changes implements [Step].
func (s UpdateEnrolment) Changes() []Change { return nil }

// Changes implements [Step].
func (s Unenrol) Changes() []Change { return nil }
