;; A program that fails unless both its clocks say that they go in steps of a millisecond.
(component
  (import "wasi:clocks/monotonic-clock@0.2.6" (instance $monotonic
    (export "resolution" (func (result u64)))))
  (import "wasi:clocks/wall-clock@0.2.6" (instance $wall
    (type $datetime' (record (field "seconds" u64) (field "nanoseconds" u32)))
    (export "datetime" (type $datetime (eq $datetime')))
    (export "resolution" (func (result $datetime)))))
  (core module $memory (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  (core func $monotonic (canon lower (func $monotonic "resolution")))
  (core func $wall (canon lower (func $wall "resolution") (memory $memory "memory")))
  (core module $guest
    (import "memory" "memory" (memory 1))
    (import "host" "monotonic" (func $monotonic (result i64)))
    (import "host" "wall" (func $wall (param i32)))
    (func (export "run") (result i32)
      (call $wall (i32.const 16))
      (i32.eqz (i32.and
        (i64.eq (call $monotonic) (i64.const 1000000))
        (i32.and
          (i64.eqz (i64.load (i32.const 16)))
          (i32.eq (i32.load (i32.const 24)) (i32.const 1000000)))))))
  (core instance $guest (instantiate $guest
    (with "memory" (instance $memory))
    (with "host" (instance (export "monotonic" (func $monotonic)) (export "wall" (func $wall))))))
  (func $run (result (result)) (canon lift (core func $guest "run")))
  (instance $entry (export "run" (func $run)))
  (export "conet:net/program-entry@0.1.0" (instance $entry)))
