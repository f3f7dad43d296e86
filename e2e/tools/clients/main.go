// Command clients does what programs in Go do to a cluster: watch through informers, elect a leader, and reconcile with
// controller-runtime. The libraries are upstream's, unmodified; what does not come about in time is an error.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

const (
	namespace = "default"
	objects   = 50
	patience  = time.Minute
)

func main() {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		fail(err)
	}
	ctrl.SetLogger(zap.New(zap.WriteTo(os.Stderr)))
	binary := rest.CopyConfig(config)
	binary.ContentType = "application/vnd.kubernetes.protobuf"
	binary.AcceptContentTypes = "application/vnd.kubernetes.protobuf"
	for _, step := range []struct {
		name string
		run  func(context.Context, *rest.Config) error
		with *rest.Config
	}{
		{"informers in JSON", informer, config},
		{"informers in protobuf", informer, binary},
		{"leader election", elect, binary},
		{"controller-runtime", reconcile, config},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		if err := step.run(ctx, step.with); err != nil {
			fail(fmt.Errorf("%s: %w", step.name, err))
		}
		cancel()
		fmt.Println(step.name, "ok")
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// eventually asks until the answer is yes or the time is over.
func eventually(ctx context.Context, what string, ask func() bool) error {
	for !ask() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: not in time", what)
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

func named(prefix string, i int) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d", prefix, i), Labels: map[string]string{"set": prefix}},
		Data:       map[string]string{"n": "0"},
	}
}

// informer holds a cache to what is made, changed and deleted.
func informer(ctx context.Context, config *rest.Config) error {
	set, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	maps := set.CoreV1().ConfigMaps(namespace)
	factory := informers.NewSharedInformerFactoryWithOptions(set, 0, informers.WithNamespace(namespace))
	lister := factory.Core().V1().ConfigMaps().Lister().ConfigMaps(namespace)
	selector := labels.SelectorFromSet(labels.Set{"set": "seen"})
	for i := range objects / 2 {
		if _, err := maps.Create(ctx, named("seen", i), metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	factory.Start(ctx.Done())
	for kind, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return fmt.Errorf("%v is not synced", kind)
		}
	}
	for i := objects / 2; i < objects; i++ {
		if _, err := maps.Create(ctx, named("seen", i), metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	for i := range objects {
		held, err := maps.Get(ctx, named("seen", i).Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		held.Data["n"] = "1"
		if _, err := maps.Update(ctx, held, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	err = eventually(ctx, "the cache holds every change", func() bool {
		all, _ := lister.List(selector)
		changed := 0
		for _, held := range all {
			if held.Data["n"] == "1" {
				changed++
			}
		}
		return changed == objects
	})
	if err != nil {
		return err
	}
	if err := maps.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: selector.String()}); err != nil {
		return err
	}
	return eventually(ctx, "the cache forgets what is deleted", func() bool {
		all, _ := lister.List(selector)
		return len(all) == 0
	})
}

// elect lets one candidate lead, and another when the first steps down.
func elect(ctx context.Context, config *rest.Config) error {
	set, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	leads := make(chan string, 2)
	run := func(ctx context.Context, name string) {
		leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{
			Lock: &resourcelock.LeaseLock{
				LeaseMeta:  metav1.ObjectMeta{Name: "election", Namespace: namespace},
				Client:     set.CoordinationV1(),
				LockConfig: resourcelock.ResourceLockConfig{Identity: name},
			},
			LeaseDuration: 6 * time.Second, RenewDeadline: 4 * time.Second, RetryPeriod: 500 * time.Millisecond,
			ReleaseOnCancel: true,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(context.Context) { leads <- name },
				OnStoppedLeading: func() {},
			},
		})
	}
	wait := func(wanted string) error {
		select {
		case name := <-leads:
			if name != wanted {
				return fmt.Errorf("%s leads, not %s", name, wanted)
			}
			return nil
		case <-ctx.Done():
			return fmt.Errorf("%s does not lead in time", wanted)
		}
	}
	first, resign := context.WithCancel(ctx)
	defer resign()
	go run(first, "first")
	if err := wait("first"); err != nil {
		return err
	}
	go run(ctx, "second")
	select {
	case name := <-leads:
		return fmt.Errorf("%s leads beside the first", name)
	case <-time.After(2 * time.Second):
	}
	resign()
	return wait("second")
}

// copier keeps a Secret beside each ConfigMap that asks for one.
type copier struct{ client.Client }

func (c copier) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var held corev1.ConfigMap
	if err := c.Get(ctx, request.NamespacedName, &held); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if held.Labels["copy"] == "" {
		return ctrl.Result{}, nil
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: held.Name, Namespace: held.Namespace}}
	_, err := controllerutil.CreateOrUpdate(ctx, c.Client, secret, func() error {
		secret.StringData = held.Data
		return controllerutil.SetControllerReference(&held, secret, c.Scheme())
	})
	return ctrl.Result{}, err
}

// reconcile runs a manager with a controller, and sees its work and what the garbage collector makes of it.
func reconcile(ctx context.Context, config *rest.Config) error {
	manager, err := ctrl.NewManager(config, ctrl.Options{
		LeaderElection: true, LeaderElectionID: "copier", LeaderElectionNamespace: namespace,
		Metrics: server.Options{BindAddress: "0"},
	})
	if err != nil {
		return err
	}
	builder := ctrl.NewControllerManagedBy(manager).For(&corev1.ConfigMap{}).Owns(&corev1.Secret{})
	if err := builder.Complete(copier{manager.GetClient()}); err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- manager.Start(running) }()
	direct, err := client.New(config, client.Options{})
	if err != nil {
		return err
	}
	source := named("copied", 0)
	source.Namespace, source.Labels = namespace, map[string]string{"copy": "yes"}
	if err := direct.Create(ctx, source); err != nil {
		return err
	}
	copied := func() *corev1.Secret {
		var secret corev1.Secret
		if direct.Get(ctx, client.ObjectKeyFromObject(source), &secret) != nil {
			return nil
		}
		return &secret
	}
	err = eventually(ctx, "the Secret is there", func() bool { secret := copied(); return secret != nil && string(secret.Data["n"]) == "0" })
	if err != nil {
		return err
	}
	patch := client.MergeFrom(source.DeepCopy())
	source.Data["n"] = "1"
	if err := direct.Patch(ctx, source, patch); err != nil {
		return err
	}
	err = eventually(ctx, "the Secret follows", func() bool { secret := copied(); return secret != nil && string(secret.Data["n"]) == "1" })
	if err != nil {
		return err
	}
	if err := direct.Delete(ctx, source); err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	if err := eventually(ctx, "the Secret goes with its owner", func() bool { return copied() == nil }); err != nil {
		return err
	}
	stop()
	return <-ended
}
