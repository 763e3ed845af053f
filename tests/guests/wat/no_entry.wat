;; A valid component that is neither program nor handler.
(component
  (core module $guest
    (func (export "run") (result i32) (i32.const 0)))
  (core instance $guest (instantiate $guest))
  (func (export "something-else") (result (result)) (canon lift (core func $guest "run"))))
