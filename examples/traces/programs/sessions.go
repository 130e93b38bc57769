// A server's sessions under a garbage collector: a map of 20,000 of them, each a few small objects
// that point to each other; so many a second are replaced by new ones, and the old ones are garbage.
//
//	sessions SECONDS PER_SECOND
//
// Prints how many a second it replaced.
package main

import (
	"fmt"
	"math/rand"
	"os"
	"strconv"
	"time"
)

type item struct {
	name  string
	price int
	next  *item
}

type session struct {
	user  string
	items *item
	page  []byte
}

const sessions = 20000

func fresh(r *rand.Rand) *session {
	s := &session{user: fmt.Sprintf("user-%d", r.Int63()), page: make([]byte, 800)}
	r.Read(s.page)
	for i := 0; i < 8; i++ {
		s.items = &item{fmt.Sprintf("item-%d", r.Int31()), r.Int(), s.items}
	}
	return s
}

func main() {
	seconds, _ := strconv.ParseFloat(os.Args[1], 64)
	rate, _ := strconv.ParseFloat(os.Args[2], 64)
	r := rand.New(rand.NewSource(1))
	table := make(map[int]*session, sessions)
	for i := 0; i < sessions; i++ {
		table[i] = fresh(r)
	}
	start := time.Now()
	replaced := 0
	for now := 0.0; now < seconds; now = time.Since(start).Seconds() {
		for ; float64(replaced) < now*rate; replaced++ {
			table[r.Intn(sessions)] = fresh(r)
		}
		time.Sleep(time.Millisecond)
	}
	fmt.Printf("%.0f\n", float64(replaced)/time.Since(start).Seconds())
}
