;; SIMD kernels over the arena. Addresses and lengths are bytes, multiples of 64; targets may be operands themselves.
;; Loops count the length down, so an arena that ends at 4 GiB is fine.
(module
  (import "arena" "memory" (memory 1 65536 shared))

  ;; target ← a + b
  (func (export "add2") (param $target i32) (param $a i32) (param $b i32) (param $length i32)
    (if (i32.eqz (local.get $length)) (then (return)))
    (loop $next
      (v128.store (local.get $target)
        (f32x4.add (v128.load (local.get $a)) (v128.load (local.get $b))))
      (v128.store offset=16 (local.get $target)
        (f32x4.add (v128.load offset=16 (local.get $a)) (v128.load offset=16 (local.get $b))))
      (v128.store offset=32 (local.get $target)
        (f32x4.add (v128.load offset=32 (local.get $a)) (v128.load offset=32 (local.get $b))))
      (v128.store offset=48 (local.get $target)
        (f32x4.add (v128.load offset=48 (local.get $a)) (v128.load offset=48 (local.get $b))))
      (local.set $target (i32.add (local.get $target) (i32.const 64)))
      (local.set $a (i32.add (local.get $a) (i32.const 64)))
      (local.set $b (i32.add (local.get $b) (i32.const 64)))
      (br_if $next (local.tee $length (i32.sub (local.get $length) (i32.const 64))))))

  ;; target ← (a + b) + (c + d)
  (func (export "add4")
    (param $target i32) (param $a i32) (param $b i32) (param $c i32) (param $d i32) (param $length i32)
    (if (i32.eqz (local.get $length)) (then (return)))
    (loop $next
      (v128.store (local.get $target)
        (f32x4.add
          (f32x4.add (v128.load (local.get $a)) (v128.load (local.get $b)))
          (f32x4.add (v128.load (local.get $c)) (v128.load (local.get $d)))))
      (v128.store offset=16 (local.get $target)
        (f32x4.add
          (f32x4.add (v128.load offset=16 (local.get $a)) (v128.load offset=16 (local.get $b)))
          (f32x4.add (v128.load offset=16 (local.get $c)) (v128.load offset=16 (local.get $d)))))
      (local.set $target (i32.add (local.get $target) (i32.const 32)))
      (local.set $a (i32.add (local.get $a) (i32.const 32)))
      (local.set $b (i32.add (local.get $b) (i32.const 32)))
      (local.set $c (i32.add (local.get $c) (i32.const 32)))
      (local.set $d (i32.add (local.get $d) (i32.const 32)))
      (br_if $next (local.tee $length (i32.sub (local.get $length) (i32.const 32))))))

  ;; target ← a + b rounded to bfloat16 (8 bits of significand, to nearest, ties to even), still as float32; a NaN becomes 0x7fc00000.
  (func (export "addBfloat16") (param $target i32) (param $a i32) (param $b i32) (param $length i32)
    (local $x v128) (local $one v128) (local $half v128) (local $kept v128) (local $nan v128)
    (local.set $one (v128.const i32x4 1 1 1 1))
    (local.set $half (v128.const i32x4 0x7fff 0x7fff 0x7fff 0x7fff))
    (local.set $kept (v128.const i32x4 0xffff0000 0xffff0000 0xffff0000 0xffff0000))
    (local.set $nan (v128.const i32x4 0x7fc00000 0x7fc00000 0x7fc00000 0x7fc00000))
    (if (i32.eqz (local.get $length)) (then (return)))
    (loop $next
      (local.set $x (f32x4.add (v128.load (local.get $a)) (v128.load (local.get $b))))
      (v128.store (local.get $target)
        (v128.bitselect
          (local.get $nan)
          (v128.and
            (i32x4.add
              (i32x4.add (local.get $x) (local.get $half))
              (v128.and (i32x4.shr_u (local.get $x) (i32.const 16)) (local.get $one)))
            (local.get $kept))
          (f32x4.ne (local.get $x) (local.get $x))))
      (local.set $target (i32.add (local.get $target) (i32.const 16)))
      (local.set $a (i32.add (local.get $a) (i32.const 16)))
      (local.set $b (i32.add (local.get $b) (i32.const 16)))
      (br_if $next (local.tee $length (i32.sub (local.get $length) (i32.const 16))))))

  ;; Rounds in place as addBfloat16 does.
  (func (export "roundBfloat16") (param $at i32) (param $length i32)
    (local $x v128) (local $one v128) (local $half v128) (local $kept v128) (local $nan v128)
    (local.set $one (v128.const i32x4 1 1 1 1))
    (local.set $half (v128.const i32x4 0x7fff 0x7fff 0x7fff 0x7fff))
    (local.set $kept (v128.const i32x4 0xffff0000 0xffff0000 0xffff0000 0xffff0000))
    (local.set $nan (v128.const i32x4 0x7fc00000 0x7fc00000 0x7fc00000 0x7fc00000))
    (if (i32.eqz (local.get $length)) (then (return)))
    (loop $next
      (local.set $x (v128.load (local.get $at)))
      (v128.store (local.get $at)
        (v128.bitselect
          (local.get $nan)
          (v128.and
            (i32x4.add
              (i32x4.add (local.get $x) (local.get $half))
              (v128.and (i32x4.shr_u (local.get $x) (i32.const 16)) (local.get $one)))
            (local.get $kept))
          (f32x4.ne (local.get $x) (local.get $x))))
      (local.set $at (i32.add (local.get $at) (i32.const 16)))
      (br_if $next (local.tee $length (i32.sub (local.get $length) (i32.const 16))))))

  ;; The upper halves of $length bytes of float32, one after the other, for $length/2 bytes; $target may be $source.
  (func (export "narrowBfloat16") (param $target i32) (param $source i32) (param $length i32)
    (if (i32.eqz (local.get $length)) (then (return)))
    (loop $next
      (v128.store (local.get $target)
        (i8x16.shuffle 2 3 6 7 10 11 14 15 18 19 22 23 26 27 30 31
          (v128.load (local.get $source)) (v128.load offset=16 (local.get $source))))
      (local.set $target (i32.add (local.get $target) (i32.const 16)))
      (local.set $source (i32.add (local.get $source) (i32.const 32)))
      (br_if $next (local.tee $length (i32.sub (local.get $length) (i32.const 32))))))

  ;; Back again: $length/2 bytes become $length bytes of float32; $source may be the second half of the target.
  (func (export "widenBfloat16") (param $target i32) (param $source i32) (param $length i32)
    (local $x v128) (local $zero v128)
    (if (i32.eqz (local.get $length)) (then (return)))
    (loop $next
      (local.set $x (v128.load (local.get $source)))
      (v128.store (local.get $target)
        (i8x16.shuffle 16 17 0 1 18 19 2 3 20 21 4 5 22 23 6 7 (local.get $x) (local.get $zero)))
      (v128.store offset=16 (local.get $target)
        (i8x16.shuffle 16 17 8 9 18 19 10 11 20 21 12 13 22 23 14 15 (local.get $x) (local.get $zero)))
      (local.set $source (i32.add (local.get $source) (i32.const 16)))
      (local.set $target (i32.add (local.get $target) (i32.const 32)))
      (br_if $next (local.tee $length (i32.sub (local.get $length) (i32.const 32))))))

  ;; Σ x² in float64. Element i goes to accumulator i mod 8; the eight are added ((0+1)+(2+3))+((4+5)+(6+7)).
  (func (export "sumOfSquares") (param $at i32) (param $length i32) (result f64)
    (local $x v128) (local $s0 v128) (local $s1 v128) (local $s2 v128) (local $s3 v128)
    (if (local.get $length)
      (then
        (loop $next
          (local.set $x (f64x2.promote_low_f32x4 (v128.load64_zero (local.get $at))))
          (local.set $s0 (f64x2.add (local.get $s0) (f64x2.mul (local.get $x) (local.get $x))))
          (local.set $x (f64x2.promote_low_f32x4 (v128.load64_zero offset=8 (local.get $at))))
          (local.set $s1 (f64x2.add (local.get $s1) (f64x2.mul (local.get $x) (local.get $x))))
          (local.set $x (f64x2.promote_low_f32x4 (v128.load64_zero offset=16 (local.get $at))))
          (local.set $s2 (f64x2.add (local.get $s2) (f64x2.mul (local.get $x) (local.get $x))))
          (local.set $x (f64x2.promote_low_f32x4 (v128.load64_zero offset=24 (local.get $at))))
          (local.set $s3 (f64x2.add (local.get $s3) (f64x2.mul (local.get $x) (local.get $x))))
          (local.set $at (i32.add (local.get $at) (i32.const 32)))
          (br_if $next (local.tee $length (i32.sub (local.get $length) (i32.const 32)))))))
    (f64.add
      (f64.add
        (f64.add (f64x2.extract_lane 0 (local.get $s0)) (f64x2.extract_lane 1 (local.get $s0)))
        (f64.add (f64x2.extract_lane 0 (local.get $s1)) (f64x2.extract_lane 1 (local.get $s1))))
      (f64.add
        (f64.add (f64x2.extract_lane 0 (local.get $s2)) (f64x2.extract_lane 1 (local.get $s2)))
        (f64.add (f64x2.extract_lane 0 (local.get $s3)) (f64x2.extract_lane 1 (local.get $s3))))))

  ;; Continues the checksum state (36 uint32 at $state: 16 sums, 16 weighted, 4 remainders) with whole 64-byte lines in order:
  ;; for each column (word of the line) sum ← sum + x, weighted ← weighted + sum; for each of the four words of the line's quarters
  ;; xored together remainder ← remainder·X + x in GF(2^32). Doubling is an addition, the carry a comparison: both have more
  ;; execution units than a shift.
  (func (export "lineChecksum") (param $state i32) (param $at i32) (param $length i32)
    (local $polynomial v128) (local $zero v128) (local $r v128)
    (local $x0 v128) (local $s0 v128) (local $w0 v128)
    (local $x1 v128) (local $s1 v128) (local $w1 v128)
    (local $x2 v128) (local $s2 v128) (local $w2 v128)
    (local $x3 v128) (local $s3 v128) (local $w3 v128)
    (local.set $polynomial (v128.const i32x4 0x04c11db7 0x04c11db7 0x04c11db7 0x04c11db7))
    (local.set $s0 (v128.load (local.get $state)))
    (local.set $s1 (v128.load offset=16 (local.get $state)))
    (local.set $s2 (v128.load offset=32 (local.get $state)))
    (local.set $s3 (v128.load offset=48 (local.get $state)))
    (local.set $w0 (v128.load offset=64 (local.get $state)))
    (local.set $w1 (v128.load offset=80 (local.get $state)))
    (local.set $w2 (v128.load offset=96 (local.get $state)))
    (local.set $w3 (v128.load offset=112 (local.get $state)))
    (local.set $r (v128.load offset=128 (local.get $state)))
    (if (local.get $length)
      (then
        (loop $next
          (local.set $x0 (v128.load (local.get $at)))
          (local.set $s0 (i32x4.add (local.get $s0) (local.get $x0)))
          (local.set $w0 (i32x4.add (local.get $w0) (local.get $s0)))
          (local.set $x1 (v128.load offset=16 (local.get $at)))
          (local.set $s1 (i32x4.add (local.get $s1) (local.get $x1)))
          (local.set $w1 (i32x4.add (local.get $w1) (local.get $s1)))
          (local.set $x2 (v128.load offset=32 (local.get $at)))
          (local.set $s2 (i32x4.add (local.get $s2) (local.get $x2)))
          (local.set $w2 (i32x4.add (local.get $w2) (local.get $s2)))
          (local.set $x3 (v128.load offset=48 (local.get $at)))
          (local.set $s3 (i32x4.add (local.get $s3) (local.get $x3)))
          (local.set $w3 (i32x4.add (local.get $w3) (local.get $s3)))
          (local.set $r
            (v128.xor
              (v128.xor
                (v128.xor
                  (v128.xor (local.get $x0) (local.get $x1))
                  (v128.xor (local.get $x2) (local.get $x3)))
                (i32x4.add (local.get $r) (local.get $r)))
              (v128.and (i32x4.lt_s (local.get $r) (local.get $zero)) (local.get $polynomial))))
          (local.set $at (i32.add (local.get $at) (i32.const 64)))
          (br_if $next (local.tee $length (i32.sub (local.get $length) (i32.const 64)))))))
    (v128.store (local.get $state) (local.get $s0))
    (v128.store offset=16 (local.get $state) (local.get $s1))
    (v128.store offset=32 (local.get $state) (local.get $s2))
    (v128.store offset=48 (local.get $state) (local.get $s3))
    (v128.store offset=64 (local.get $state) (local.get $w0))
    (v128.store offset=80 (local.get $state) (local.get $w1))
    (v128.store offset=96 (local.get $state) (local.get $w2))
    (v128.store offset=112 (local.get $state) (local.get $w3))
    (v128.store offset=128 (local.get $state) (local.get $r)))

  ;; Address of the first 16-byte group that holds a NaN or an infinity (exponent all ones), or $at + $length.
  (func (export "findNonFinite") (param $at i32) (param $length i32) (result i32)
    (local $exponent v128)
    (local.set $exponent (v128.const i32x4 0x7f800000 0x7f800000 0x7f800000 0x7f800000))
    (if (local.get $length)
      (then
        (loop $next
          (if (v128.any_true
                (i32x4.eq (v128.and (v128.load (local.get $at)) (local.get $exponent)) (local.get $exponent)))
            (then (return (local.get $at))))
          (local.set $at (i32.add (local.get $at) (i32.const 16)))
          (br_if $next (local.tee $length (i32.sub (local.get $length) (i32.const 16)))))))
    (local.get $at)))
