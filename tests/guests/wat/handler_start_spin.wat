;; A handler whose module spins before anything is called.
(component
  (import "conet:net/tcp@0.1.0" (instance $tcp (export "connection" (type (sub resource)))))
  (alias export $tcp "connection" (type $connection))
  (core module $guest
    (func $start (loop $for-ever (br $for-ever)))
    (start $start)
    (func (export "handle") (param i32) (result i32) (i32.const 0)))
  (core instance $guest (instantiate $guest))
  (func $handle (param "connection" (own $connection)) (result (result)) (canon lift (core func $guest "handle")))
  (instance $entry (export "handle" (func $handle)))
  (export "conet:net/handler-entry@0.1.0" (instance $entry)))
