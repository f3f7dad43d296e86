//! Fields that Go keeps behind a pointer although they hold a plain value: for these, zero on the wire is not "nothing".
//!
//! The other plain fields are always on the wire, zero or not, so that zero means absent there. One line for each of Go's
//! structs, with the fields by their names in JSON.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use crate::schema::{Field, Type};

const POINTERS: &str = "\
AllocatedDeviceStatus shareID\n\
AppArmorProfile localhostProfile\n\
AzureDiskVolumeSource cachingMode fsType kind readOnly\n\
AzureFilePersistentVolumeSource secretNamespace\n\
CSIDriverSpec attachRequired fsGroupPolicy nodeAllocatableUpdatePeriodSeconds podInfoOnMount requiresRepublish seLinuxMount serviceAccountTokenInSecrets storageCapacity\n\
CSIVolumeSource fsType readOnly\n\
CertificateSigningRequestSpec expirationSeconds\n\
ClientIPConfig timeoutSeconds\n\
ClusterTrustBundleProjection name optional signerName\n\
ConfigMap immutable\n\
ConfigMapEnvSource optional\n\
ConfigMapKeySelector optional\n\
ConfigMapProjection optional\n\
ConfigMapVolumeSource defaultMode optional\n\
Container restartPolicy\n\
ContainerStatus started stopSignal\n\
CronJobSpec failedJobsHistoryLimit startingDeadlineSeconds successfulJobsHistoryLimit suspend timeZone\n\
CustomResourceDefinitionVersion deprecationWarning\n\
CustomResourceSubresourceScale labelSelectorPath\n\
DaemonSetSpec revisionHistoryLimit\n\
DaemonSetStatus collisionCount\n\
DeleteOptions gracePeriodSeconds ignoreStoreReadErrorWithClusterBreakingPotential orphanDependents propagationPolicy\n\
DeploymentSpec progressDeadlineSeconds replicas revisionHistoryLimit\n\
DeploymentStatus collisionCount terminatingReplicas\n\
Device allNodes allowMultipleAllocations bindsToNode nodeName\n\
DeviceAttribute bool int string version\n\
DeviceClassSpec extendedResourceName\n\
DeviceConstraint distinctAttribute matchAttribute\n\
DeviceRequestAllocationResult adminAccess shareID\n\
DeviceToleration tolerationSeconds\n\
DownwardAPIVolumeFile mode\n\
DownwardAPIVolumeSource defaultMode\n\
Endpoint hostname nodeName zone\n\
EndpointAddress nodeName\n\
EndpointConditions ready serving terminating\n\
EndpointPort appProtocol name port protocol\n\
EphemeralContainerCommon restartPolicy\n\
ExactDeviceRequest adminAccess\n\
ExemptPriorityLevelConfiguration lendablePercent nominalConcurrencyShares\n\
FCVolumeSource lun\n\
FileKeySelector optional\n\
GRPCAction service\n\
GlusterfsPersistentVolumeSource endpointsNamespace\n\
HPAScalingRules selectPolicy stabilizationWindowSeconds\n\
HTTPIngressPath pathType\n\
HorizontalPodAutoscalerSpec minReplicas targetCPUUtilizationPercentage\n\
HorizontalPodAutoscalerStatus currentCPUUtilizationPercentage observedGeneration\n\
HostPathVolumeSource type\n\
ISCSIPersistentVolumeSource initiatorName\n\
ISCSIVolumeSource initiatorName\n\
IngressClassParametersReference apiGroup namespace scope\n\
IngressPortStatus error\n\
IngressSpec ingressClassName\n\
JSONSchemaProps $ref maxItems maxLength maxProperties maximum minItems minLength minProperties minimum multipleOf x-kubernetes-list-type x-kubernetes-map-type x-kubernetes-preserve-unknown-fields\n\
JobSpec activeDeadlineSeconds backoffLimit backoffLimitPerIndex completionMode completions managedBy manualSelector maxFailedIndexes parallelism podReplacementPolicy suspend ttlSecondsAfterFinished\n\
JobStatus failedIndexes ready terminating\n\
KeyToPath mode\n\
LeaseSpec holderIdentity leaseDurationSeconds leaseTransitions preferredHolder strategy\n\
Lifecycle stopSignal\n\
LimitedPriorityLevelConfiguration borrowingLimitPercent lendablePercent nominalConcurrencyShares\n\
ListMeta remainingItemCount\n\
LoadBalancerIngress ipMode\n\
LocalVolumeSource fsType\n\
MatchResources matchPolicy\n\
MetricTarget averageUtilization\n\
MetricValueStatus averageUtilization\n\
MutatingWebhook failurePolicy matchPolicy reinvocationPolicy sideEffects timeoutSeconds\n\
NetworkPolicyPort endPort protocol\n\
NodeFeatures supplementalGroupsPolicy\n\
NodeRuntimeHandlerFeatures recursiveReadOnlyMounts userNamespaces\n\
NodeSwapStatus capacity\n\
ObjectMeta deletionGracePeriodSeconds\n\
OwnerReference blockOwnerDeletion controller\n\
ParamRef parameterNotFoundAction\n\
PersistentVolumeClaimSpec storageClassName volumeAttributesClassName volumeMode\n\
PersistentVolumeClaimStatus currentVolumeAttributesClassName\n\
PersistentVolumeSpec volumeAttributesClassName volumeMode\n\
PodCertificateProjection maxExpirationSeconds\n\
PodDNSConfigOption value\n\
PodDisruptionBudgetSpec unhealthyPodEvictionPolicy\n\
PodFailurePolicyOnExitCodesRequirement containerName\n\
PodResourceClaim resourceClaimName resourceClaimTemplateName\n\
PodResourceClaimStatus resourceClaimName\n\
PodSecurityContext fsGroup fsGroupChangePolicy runAsGroup runAsNonRoot runAsUser seLinuxChangePolicy supplementalGroupsPolicy\n\
PodSpec activeDeadlineSeconds automountServiceAccountToken enableServiceLinks hostUsers hostnameOverride preemptionPolicy priority runtimeClassName setHostnameAsFQDN shareProcessNamespace terminationGracePeriodSeconds\n\
PortStatus error\n\
Preconditions resourceVersion uid\n\
PriorityClass preemptionPolicy\n\
Probe terminationGracePeriodSeconds\n\
ProjectedVolumeSource defaultMode\n\
ReplicaSetSpec replicas\n\
ReplicaSetStatus terminatingReplicas\n\
ReplicationControllerSpec replicas\n\
ResourceSliceSpec allNodes nodeName perDeviceNodeSelection\n\
RollingUpdateStatefulSetStrategy partition\n\
Rule scope\n\
SeccompProfile localhostProfile\n\
Secret immutable\n\
SecretEnvSource optional\n\
SecretKeySelector optional\n\
SecretProjection optional\n\
SecretVolumeSource defaultMode optional\n\
SecurityContext allowPrivilegeEscalation privileged procMount readOnlyRootFilesystem runAsGroup runAsNonRoot runAsUser\n\
ServiceAccount automountServiceAccountToken\n\
ServiceAccountTokenProjection expirationSeconds\n\
ServicePort appProtocol\n\
ServiceReference path port\n\
ServiceSpec allocateLoadBalancerNodePorts internalTrafficPolicy ipFamilyPolicy loadBalancerClass trafficDistribution\n\
StatefulSetSpec replicas revisionHistoryLimit\n\
StatefulSetStatus collisionCount\n\
StorageClass allowVolumeExpansion reclaimPolicy volumeBindingMode\n\
SuccessPolicyRule succeededCount succeededIndexes\n\
TokenRequest expirationSeconds\n\
TokenRequestSpec expirationSeconds\n\
Toleration tolerationSeconds\n\
TopologySpreadConstraint minDomains nodeAffinityPolicy nodeTaintsPolicy\n\
TypedLocalObjectReference apiGroup\n\
TypedObjectReference apiGroup namespace\n\
ValidatingAdmissionPolicySpec failurePolicy\n\
ValidatingWebhook failurePolicy matchPolicy sideEffects timeoutSeconds\n\
Validation reason\n\
ValidationRule optionalOldSelf reason\n\
VolumeAttachmentSource persistentVolumeName\n\
VolumeError errorCode\n\
VolumeMount mountPropagation recursiveReadOnly\n\
VolumeMountStatus recursiveReadOnly\n\
VolumeNodeResources count\n\
WebhookClientConfig url\n\
WindowsSecurityContextOptions gmsaCredentialSpec gmsaCredentialSpecName hostProcess runAsUserName";

static BY_STRUCT: LazyLock<HashMap<&'static str, HashSet<&'static str>>> = LazyLock::new(|| {
    let line = |line: &'static str| {
        let mut words = line.split(' ');
        Some((words.next()?, words.collect()))
    };
    POINTERS.lines().filter_map(line).collect()
});

/// Whether zero in this field of a type is something else than absent.
pub(super) fn zero_means(ty: &Type, field: &Field) -> bool {
    // What Go embeds is a struct of its own.
    let holder = field
        .inlined
        .last()
        .map_or_else(|| ty.go_name(), |(_, name)| name);
    BY_STRUCT
        .get(holder)
        .is_some_and(|fields| fields.contains(field.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    #[test]
    fn every_struct_and_field_is_there() {
        let mut unknown = Vec::new();
        for (name, fields) in BY_STRUCT.iter() {
            let known: HashSet<&str> = schema::types()
                .iter()
                .flat_map(|ty| {
                    ty.fields().iter().filter(move |field| {
                        let holder = field
                            .inlined
                            .last()
                            .map_or_else(|| ty.go_name(), |(_, go)| go);
                        holder == *name
                    })
                })
                .map(|field| field.name)
                .collect();
            unknown.extend(
                fields
                    .iter()
                    .filter(|field| !known.contains(*field))
                    .map(|field| format!("{name}.{field}")),
            );
        }
        unknown.sort();
        assert!(unknown.is_empty(), "{unknown:#?}");
    }
}
