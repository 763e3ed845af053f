;; A program beside a bomb: each component instantiates the one before it, which it takes from outside, ten times.
(component $root
  (component $c0)
  (component $c1
    (alias outer $root $c0 (component $c))
    (instance (instantiate $c)) (instance (instantiate $c)) (instance (instantiate $c)) (instance (instantiate $c))
    (instance (instantiate $c)) (instance (instantiate $c)) (instance (instantiate $c)) (instance (instantiate $c))
    (instance (instantiate $c)) (instance (instantiate $c)))
  (component $c2
    (alias outer $root $c1 (component $c))
    (instance (instantiate $c)) (instance (instantiate $c)) (instance (instantiate $c)) (instance (instantiate $c))
    (instance (instantiate $c)) (instance (instantiate $c)) (instance (instantiate $c)) (instance (instantiate $c))
    (instance (instantiate $c)) (instance (instantiate $c)))
  (component $c3
    (alias outer $root $c2 (component $c))
    (instance (instantiate $c)) (instance (instantiate $c)) (instance (instantiate $c)) (instance (instantiate $c))
    (instance (instantiate $c)) (instance (instantiate $c)) (instance (instantiate $c)) (instance (instantiate $c))
    (instance (instantiate $c)) (instance (instantiate $c)))
  (instance (instantiate $c3))
  (core module $guest
    (func (export "run") (result i32) (i32.const 0)))
  (core instance $guest (instantiate $guest))
  (func $run (result (result)) (canon lift (core func $guest "run")))
  (instance $entry (export "run" (func $run)))
  (export "conet:net/program-entry@0.1.0" (instance $entry)))
