;; A program that spins.
(component
  (core module $guest
    (func (export "run") (result i32) (loop $for-ever (br $for-ever)) (unreachable)))
  (core instance $guest (instantiate $guest))
  (func $run (result (result)) (canon lift (core func $guest "run")))
  (instance $entry (export "run" (func $run)))
  (export "conet:net/program-entry@0.1.0" (instance $entry)))
