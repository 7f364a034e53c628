// Tenks makes clusters of virtual bare metal. This file starts the command line
// (package cli) and turns its result into an exit status.
package main

func main() {}
