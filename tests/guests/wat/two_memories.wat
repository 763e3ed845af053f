;; A program that grows two memories in turn until both are refused; fails if together they exceed 8 MiB (128 pages),
;; or if it got less than half of that.
(component
  (core module $half
    (memory $memory 1)
    (func (export "grow") (result i32) (memory.grow $memory (i32.const 1)))
    (func (export "size") (result i32) (memory.size $memory)))
  (core instance $a (instantiate $half))
  (core instance $b (instantiate $half))
  (core module $guest
    (import "a" "grow" (func $grow-a (result i32)))
    (import "a" "size" (func $size-a (result i32)))
    (import "b" "grow" (func $grow-b (result i32)))
    (import "b" "size" (func $size-b (result i32)))
    (func $pages (result i32) (i32.add (call $size-a) (call $size-b)))
    (func (export "run") (result i32)
      (loop $more
        (if (i32.gt_u (call $pages) (i32.const 128)) (then (return (i32.const 1))))
        (br_if $more (i32.ne (call $grow-a) (i32.const -1)))
        (br_if $more (i32.ne (call $grow-b) (i32.const -1))))
      (i32.lt_u (call $pages) (i32.const 64))))
  (core instance $guest (instantiate $guest
    (with "a" (instance $a))
    (with "b" (instance $b))))
  (func $run (result (result)) (canon lift (core func $guest "run")))
  (instance $entry (export "run" (func $run)))
  (export "conet:net/program-entry@0.1.0" (instance $entry)))
