;; A program that spawns a coroutine and returns whether it could. The instance that this one is to run in spins before
;; anything is called: it has a later id.
(component
  (import "conet:net/types@0.1.0" (instance $types
    (type $code (enum
      "access-denied" "address-family-not-supported" "address-in-use" "address-not-available" "busy"
      "cancelled" "closed" "connection-aborted" "connection-refused" "connection-reset" "host-unreachable"
      "invalid-argument" "invalid-state" "limit-exceeded" "message-too-large" "name-not-found"
      "name-resolution-failed" "network-unreachable" "out-of-resources" "protocol-error" "shutting-down"
      "timed-out" "tls-failed" "unsupported" "other"))
    (export "error-code" (type (eq $code)))))
  (alias export $types "error-code" (type $code))
  (import "conet:net/tcp@0.1.0" (instance $tcp (export "connection" (type (sub resource)))))
  (alias export $tcp "connection" (type $connection))
  (import "conet:net/coroutine@0.1.0" (instance $coroutine
    (alias outer 1 $code (type $code))
    (alias outer 1 $connection (type $connection))
    (export "id" (func (result u64)))
    (export "spawn" (func
      (param "entry" u32) (param "connections" (list (own $connection))) (param "bytes" (list u8))
      (result (result u64 (error $code)))))))
  (core module $memory (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  (core func $id (canon lower (func $coroutine "id")))
  (core func $spawn (canon lower (func $coroutine "spawn") (memory $memory "memory")))
  (core module $guest
    (import "memory" "memory" (memory 1))
    (import "host" "id" (func $id (result i64)))
    (import "host" "spawn" (func $spawn (param i32 i32 i32 i32 i32 i32)))
    (func $start (loop $for-ever (br_if $for-ever (i64.gt_u (call $id) (i64.const 2)))))
    (start $start)
    (func $realloc (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
    (func (export "start") (param i32 i32 i32 i32 i32))
    (func (export "run") (result i32)
      (call $spawn (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 16))
      (i32.load8_u (i32.const 16))))
  (core instance $guest (instantiate $guest
    (with "memory" (instance $memory))
    (with "host" (instance (export "id" (func $id)) (export "spawn" (func $spawn))))))
  (func $run (result (result)) (canon lift (core func $guest "run")))
  (instance $entry (export "run" (func $run)))
  (export "conet:net/program-entry@0.1.0" (instance $entry))
  (func $started
    (param "entry" u32) (param "connections" (list (own $connection))) (param "bytes" (list u8))
    (canon lift (core func $guest "start") (memory $memory "memory") (realloc (func $guest "realloc"))))
  (instance $coroutine-entry (export "start" (func $started)))
  (export "conet:net/coroutine-entry@0.1.0" (instance $coroutine-entry)))
