;; A program that exits with code 7; std's exit on wasm32-wasip2 tells only success from failure.
(component
  (import "wasi:cli/exit@0.2.6" (instance $exit
    (export "exit-with-code" (func (param "status-code" u8)))))
  (core func $exit (canon lower (func $exit "exit-with-code")))
  (core module $guest
    (import "exit" "with-code" (func $exit (param i32)))
    (func (export "run") (result i32) (call $exit (i32.const 7)) (unreachable)))
  (core instance $guest (instantiate $guest
    (with "exit" (instance (export "with-code" (func $exit))))))
  (func $run (result (result)) (canon lift (core func $guest "run")))
  (instance $entry (export "run" (func $run)))
  (export "conet:net/program-entry@0.1.0" (instance $entry)))
