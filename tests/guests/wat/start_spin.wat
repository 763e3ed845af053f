;; A program whose module spins before anything is called.
(component
  (core module $guest
    (func $start (loop $for-ever (br $for-ever)))
    (start $start)
    (func (export "run") (result i32) (i32.const 0)))
  (core instance $guest (instantiate $guest))
  (func $run (result (result)) (canon lift (core func $guest "run")))
  (instance $entry (export "run" (func $run)))
  (export "conet:net/program-entry@0.1.0" (instance $entry)))
