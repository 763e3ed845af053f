;; A program's entry with nothing in it.
(component
  (instance $entry)
  (export "conet:net/program-entry@0.1.0" (instance $entry)))
