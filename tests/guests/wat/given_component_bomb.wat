;; A program beside a bomb: $ten makes ten of whatever component it is given, and what it exports is given to it again.
(component $root
  (component $c0)
  (component $ten
    (import "given" (component $c))
    (component $made
      (alias outer $ten $c (component $c))
      (instance (instantiate $c)) (instance (instantiate $c)) (instance (instantiate $c)) (instance (instantiate $c))
      (instance (instantiate $c)) (instance (instantiate $c)) (instance (instantiate $c)) (instance (instantiate $c))
      (instance (instantiate $c)) (instance (instantiate $c)))
    (export "made" (component $made)))
  (instance $i1 (instantiate $ten (with "given" (component $c0))))
  (alias export $i1 "made" (component $c1))
  (instance $i2 (instantiate $ten (with "given" (component $c1))))
  (alias export $i2 "made" (component $c2))
  (instance $i3 (instantiate $ten (with "given" (component $c2))))
  (alias export $i3 "made" (component $c3))
  (instance (instantiate $c3))
  (core module $guest
    (func (export "run") (result i32) (i32.const 0)))
  (core instance $guest (instantiate $guest))
  (func $run (result (result)) (canon lift (core func $guest "run")))
  (instance $entry (export "run" (func $run)))
  (export "conet:net/program-entry@0.1.0" (instance $entry)))
