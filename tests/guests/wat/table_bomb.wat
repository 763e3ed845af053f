;; A program that grows a table until refused; fails if it gets beyond ten million elements.
(component
  (core module $guest
    (table $table 1 funcref)
    (func (export "run") (result i32)
      (loop $more
        (if (i32.gt_u (table.size $table) (i32.const 10000000)) (then (return (i32.const 1))))
        (br_if $more (i32.ne (table.grow $table (ref.null func) (i32.const 1000)) (i32.const -1))))
      (i32.const 0)))
  (core instance $guest (instantiate $guest))
  (func $run (result (result)) (canon lift (core func $guest "run")))
  (instance $entry (export "run" (func $run)))
  (export "conet:net/program-entry@0.1.0" (instance $entry)))
